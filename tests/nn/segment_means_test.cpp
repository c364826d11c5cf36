// Means over segments: what they are, their gradients, and a model that reads from them.
#include "krait/nn/segment_means.h"

#include <array>

#include "krait/nn/language_model.h"
#include "krait/nn/mamba2_mixer.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

class SegmentMeans : public tests::RandomTensors {};

TEST_F(SegmentMeans, AreTheMeansOfTheirRowsAndZeroInRowsOfNone) {
  const Tensor x = normal({tests::kPaddedRows, 3});
  const Tensor means = segment_means(x, tests::kPaddedSegments);
  for (std::int64_t row = 0; row < 5; ++row) EXPECT_TRUE(at::allclose(means[row], x.narrow(0, 0, 5).mean(0)));
  EXPECT_TRUE(at::equal(means[5], at::zeros({3}, at::kDouble)));
  for (std::int64_t row = 6; row < 9; ++row) EXPECT_TRUE(at::allclose(means[row], x.narrow(0, 6, 3).mean(0)));
}

TEST_F(SegmentMeans, HaveTheGradientsOfMeans) {
  tests::check_gradients({{{"x", normal({tests::kPaddedRows, 3})}}}, [](const tests::Inputs& in) {
    return tests::Results{segment_means(in("x"), tests::kPaddedSegments)};
  });
}

// Equal logits in all rows of a segment, which every token of it has a part in.
TEST_F(SegmentMeans, AreWhatAPooledModelAnswersFrom) {
  LanguageModel model({.vocabulary = 9, .width = 8, .layers = 2}, [](std::int64_t) {
    return std::make_shared<Mamba2Mixer>(Mamba2Dimensions{.width = 8, .inner = 16, .head_width = 8, .states = 4});
  });
  const at::NoGradGuard guard;
  std::array<std::int32_t, 7> tokens = {1, 2, 3, 4, 5, 6, 7};
  const Batch batch = {.segments = {{0, 4}, {4, 3}}, .pooled = true};
  const Tensor logits = model.logits(tokens, batch);
  for (std::int64_t row = 1; row < 4; ++row) EXPECT_TRUE(at::allclose(logits[row], logits[0]));
  for (std::int64_t row = 5; row < 7; ++row) EXPECT_TRUE(at::allclose(logits[row], logits[4]));
  tokens[3] = 8;
  const Tensor other = model.logits(tokens, batch);
  EXPECT_FALSE(at::allclose(other[0], logits[0]));
  EXPECT_TRUE(at::equal(other[4], logits[4]));
}

}  // namespace
}  // namespace krait::nn
