// RWKV-7: a trained model that must solve its task, the two ways of naming a checkpoint, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "krait/core/random.h"
#include "krait/kernels/distribution.h"
#include "krait/models/gguf_checkpoint.h"
#include "krait/models/synthetic.h"
#include "tests/support/golden_logits.h"
#include "tests/support/shared_data.h"

namespace krait::tests {
namespace {

constexpr models::SyntheticShape kTiny = {"tiny-rwkv7", "rwkv7", 3, 24, 67, 0, 8};

// A checkpoint in memory, to be changed.
class Checkpoint final : public formats::WeightSource {
 public:
  explicit Checkpoint(const formats::WeightSource& from, std::string format = "torch")
      : format_(std::move(format)), config_(from.config()) {
    for (const formats::TensorInfo& info : from.tensors()) put(info.name, info.shape, values_of(from, info));
  }
  Checkpoint(std::string format, formats::Config config) : format_(std::move(format)), config_(std::move(config)) {}

  static std::vector<float> values_of(const formats::WeightSource& from, const formats::TensorInfo& info) {
    std::vector<float> values(static_cast<std::size_t>(*element_count(info.shape)));
    const auto read = formats::read_as_f32(from.view(info.name).value(), values);
    EXPECT_TRUE(read);
    return values;
  }
  void put(const std::string& name, Shape shape, std::vector<float> values) {
    drop(name);
    tensors_.push_back({name, DType::kF32, std::move(shape), values.size() * sizeof(float)});
    values_[name] = std::move(values);
    std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
  }
  void drop(const std::string& name) {
    std::erase_if(tensors_, [&](const auto& tensor) { return tensor.name == name; });
  }
  void reshape(const std::string& name, Shape shape) {
    const auto count = static_cast<std::size_t>(*element_count(shape));
    put(name, std::move(shape), std::vector<float>(count, 0.5F));
  }
  formats::Config& configuration() { return config_; }

  std::string_view format() const override { return format_; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "changed.pth"; }
  Result<TensorView> view(std::string_view name) const override {
    const formats::TensorInfo* info = find(name);
    if (info == nullptr) return fail(ErrorCode::kNotFound, "no tensor {} in {}", name, origin());
    return TensorView{info->dtype, info->shape, std::as_bytes(std::span(values_.find(name)->second))};
  }

 private:
  std::string format_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, std::vector<float>, std::less<>> values_;
};

std::string load_error(std::shared_ptr<const formats::WeightSource> source, models::LoadOptions options = {}) {
  const auto model = models::load_model(std::move(source), options);
  return model ? std::string() : model.error().message;
}

TEST(Rwkv7, TheTrainedModelReversesNumbers) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const auto engine = open_engine(shared / "golden/rwkv7/reverse_L2.pth", {}, {.threads = 2});
  EXPECT_EQ(engine->model().info().architecture, "rwkv7");
  constexpr std::int32_t kComma = 10, kEnd = 11;
  Random random(1);
  int right = 0;
  for (int i = 0; i < 200; ++i) {
    const std::size_t digits = 1 + random.next() % 60;
    std::vector<std::int32_t> number;
    while (number.size() < digits) number.push_back(static_cast<std::int32_t>(random.next() % 10));
    std::vector<std::int32_t> wanted(number.rbegin(), number.rend());
    wanted.push_back(kEnd);
    number.push_back(kComma);
    runtime::Session session(*engine);
    session.feed(number);
    std::vector<std::int32_t> got;
    while (got.size() < wanted.size() && (got.empty() || got.back() != kEnd)) {
      got.push_back(static_cast<std::int32_t>(kernels::argmax(session.logits())));
      session.feed({&got.back(), 1});
    }
    right += got == wanted ? 1 : 0;
  }
  RecordProperty("right", right);
  EXPECT_GE(right, 199);
}

TEST(Rwkv7, TheRosaOperatorIsRefusedRatherThanLeftOut) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const auto trained = formats::open_weights(shared / "golden/rwkv7/reverse_L2.pth").value();
  auto changed = std::make_shared<Checkpoint>(*trained);
  EXPECT_EQ(load_error(changed), "");
  changed->reshape("rosa2.rosa_qkv.emb", {1, 1, 32});
  EXPECT_NE(load_error(changed).find("rosa2.rosa_qkv.emb"), std::string::npos) << load_error(changed);
}

// What GGUF's converter makes of the authors' names: low-rank factors turned, mixes stacked, and a value residual in
// the first layer that nobody uses.
std::shared_ptr<Checkpoint> as_gguf_names(const formats::WeightSource& from, const models::SyntheticShape& shape) {
  formats::Config config("model.gguf");
  config.set("general.architecture", std::string("rwkv7"));
  config.set("rwkv7.block_count", shape.layers);
  config.set("rwkv7.embedding_length", shape.width);
  config.set("rwkv7.wkv.head_size", shape.head_width);
  config.set("rwkv7.attention.layer_norm_epsilon", 1e-5);
  auto gguf = std::make_shared<Checkpoint>("gguf", config);
  const std::map<std::string, std::string> outside = {
      {"emb.weight", "token_embd.weight"},           {"blocks.0.ln0.weight", "token_embd_norm.weight"},
      {"blocks.0.ln0.bias", "token_embd_norm.bias"}, {"ln_out.weight", "output_norm.weight"},
      {"ln_out.bias", "output_norm.bias"},           {"head.weight", "output.weight"}};
  const std::map<std::string, std::string> inside = {{"ln1.weight", "attn_norm.weight"},
                                                     {"ln1.bias", "attn_norm.bias"},
                                                     {"ln2.weight", "attn_norm_2.weight"},
                                                     {"ln2.bias", "attn_norm_2.bias"},
                                                     {"att.ln_x.weight", "time_mix_ln.weight"},
                                                     {"att.ln_x.bias", "time_mix_ln.bias"},
                                                     {"att.key.weight", "time_mix_key.weight"},
                                                     {"att.value.weight", "time_mix_value.weight"},
                                                     {"att.receptance.weight", "time_mix_receptance.weight"},
                                                     {"att.output.weight", "time_mix_output.weight"},
                                                     {"ffn.x_k", "channel_mix_lerp_k.weight"},
                                                     {"ffn.key.weight", "channel_mix_key.weight"},
                                                     {"ffn.value.weight", "channel_mix_value.weight"}};
  const std::set<std::string> factors = {"w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"};
  std::map<std::string, std::map<char, std::vector<float>>> mixes;  // by block
  for (const formats::TensorInfo& info : from.tensors()) {
    std::vector<float> values = Checkpoint::values_of(from, info);
    if (const auto found = outside.find(info.name); found != outside.end()) {
      gguf->put(found->second, info.shape, std::move(values));
      continue;
    }
    const std::size_t dot = info.name.find('.', 7);  // after "blocks.N"
    const std::string block = "blk." + info.name.substr(7, dot - 7) + ".";
    const std::string rest = info.name.substr(dot + 1), parameter = rest.substr(rest.find('.') + 1);
    if (const auto found = inside.find(rest); found != inside.end()) {
      gguf->put(block + found->second, info.shape, std::move(values));
    } else if (parameter.starts_with("x_")) {
      mixes[block][parameter[2]] = std::move(values);
    } else if (factors.contains(parameter)) {
      const auto rows = static_cast<std::size_t>(info.shape[0]), columns = static_cast<std::size_t>(info.shape[1]);
      std::vector<float> turned(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) turned[i % columns * rows + i / columns] = values[i];
      gguf->put(block + "time_mix_" + parameter + ".weight", {info.shape[1], info.shape[0]}, std::move(turned));
    } else {
      gguf->put(block + "time_mix_" + parameter + ".weight", {shape.width}, std::move(values));
    }
  }
  for (const auto& [block, mix] : mixes) {
    std::vector<float> fused;
    for (const char letter : std::string("rwkvag"))
      fused.insert(fused.end(), mix.at(letter).begin(), mix.at(letter).end());
    gguf->put(block + "time_mix_lerp_fused.weight", {6, 1, 1, shape.width}, std::move(fused));
  }
  return gguf;
}

TEST(Rwkv7, GgufNamesAreTheSameModel) {
  const auto original = std::shared_ptr(models::make_synthetic(kTiny, DType::kF32, 5));
  std::vector<std::vector<std::vector<float>>> logits;
  for (const auto& source : {std::shared_ptr<const formats::WeightSource>(original),
                             std::shared_ptr<const formats::WeightSource>(as_gguf_names(*original, kTiny))}) {
    auto model = models::load_model(source);
    ASSERT_TRUE(model) << model.error().message;
    runtime::Engine engine(*std::move(model), {.threads = 2});
    runtime::Session session(engine);
    const std::vector<std::int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 66, 0};
    logits.push_back(all_logits(session, ids));
  }
  // Other kernels for the same products: a few roundings of sums of up to 96 terms.
  EXPECT_LE(relative_error(logits[0], logits[1]), 2e-5);
}

// To transformers' layout and to GGUF again: the same bits, but for the unused part of the first layer.
TEST(Rwkv7, GgufGoesToTransformersLayoutAndBack) {
  const std::vector<std::int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7, 9};
  const auto gguf = as_gguf_names(*models::make_synthetic(kTiny, DType::kF32, 5), kTiny);
  const auto there = models::as_transformers(gguf);
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ((*there)->config().text("model_type").value_or(""), "rwkv7");
  EXPECT_EQ(logits_of(*there, ids), logits_of(gguf, ids));
  const auto back = models::as_gguf(*there);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(logits_of(*back, ids), logits_of(gguf, ids));
  for (const formats::TensorInfo& info : (*back)->tensors()) {
    ASSERT_NE(gguf->find(info.name), nullptr) << info.name;
    EXPECT_EQ(Checkpoint::values_of(**back, info), Checkpoint::values_of(*gguf, *gguf->find(info.name))) << info.name;
  }
  for (const formats::TensorInfo& info : gguf->tensors()) {
    const bool unused = info.name.starts_with("blk.0.time_mix_v") && !info.name.ends_with("value.weight");
    EXPECT_EQ((*back)->find(info.name) == nullptr, unused) << info.name;
  }
}

// The names of flash-linear-attention, whose low-rank factors stand like other matrices.
TEST(Rwkv7, TransformersNamesAreTheSameModel) {
  const auto original = std::shared_ptr(models::make_synthetic(kTiny, DType::kF32, 5));
  auto renamed = std::make_shared<Checkpoint>("safetensors", original->config());
  const std::map<std::string, std::string> outside = {{"emb.weight", "model.embeddings.weight"},
                                                      {"blocks.0.ln0.weight", "model.layers.0.pre_norm.weight"},
                                                      {"blocks.0.ln0.bias", "model.layers.0.pre_norm.bias"},
                                                      {"ln_out.weight", "model.norm.weight"},
                                                      {"ln_out.bias", "model.norm.bias"},
                                                      {"head.weight", "lm_head.weight"}};
  const std::map<std::string, std::string> inside = {{"ln1", "attn_norm"},          {"ln2", "ffn_norm"},
                                                     {"att.ln_x", "attn.g_norm"},   {"att.receptance", "attn.r_proj"},
                                                     {"att.key", "attn.k_proj"},    {"att.value", "attn.v_proj"},
                                                     {"att.output", "attn.o_proj"}, {"ffn.key", "ffn.key"},
                                                     {"ffn.value", "ffn.value"}};
  for (const formats::TensorInfo& info : original->tensors()) {
    std::vector<float> values = Checkpoint::values_of(*original, info);
    if (const auto found = outside.find(info.name); found != outside.end()) {
      renamed->put(found->second, info.shape, std::move(values));
      continue;
    }
    const std::size_t dot = info.name.find('.', 7);  // after "blocks.N"
    const std::string layer = "model.layers." + info.name.substr(7, dot - 7) + ".", rest = info.name.substr(dot + 1);
    const std::string parameter = rest.substr(rest.find('.') + 1), stem = rest.substr(0, rest.rfind('.'));
    if (const auto found = inside.find(stem); found != inside.end()) {
      renamed->put(layer + found->second + rest.substr(rest.rfind('.')), info.shape, std::move(values));
    } else if (parameter.size() == 2 && std::string("wavg").find(parameter[0]) != std::string::npos &&
               std::string("012").find(parameter[1]) != std::string::npos) {
      const std::string lora = layer + "attn." + parameter[0] + "_lora.lora.";
      if (parameter[1] == '0') {
        renamed->put(lora + "2.bias", {24}, std::move(values));
        continue;
      }
      const auto rows = static_cast<std::size_t>(info.shape[0]), columns = static_cast<std::size_t>(info.shape[1]);
      std::vector<float> turned(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) turned[i % columns * rows + i / columns] = values[i];
      renamed->put(lora + (parameter[1] == '1' ? "0.weight" : "2.weight"), {info.shape[1], info.shape[0]},
                   std::move(turned));
    } else {
      renamed->put(layer + (rest.starts_with("att.") ? "attn." : "ffn.") + parameter, info.shape, std::move(values));
    }
  }
  std::vector<std::vector<std::vector<float>>> logits;
  for (const auto& source : {std::shared_ptr<const formats::WeightSource>(original),
                             std::shared_ptr<const formats::WeightSource>(renamed)}) {
    auto model = models::load_model(source);
    ASSERT_TRUE(model) << model.error().message;
    runtime::Engine engine(*std::move(model), {.threads = 2});
    runtime::Session session(engine);
    const std::vector<std::int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 66, 0};
    logits.push_back(all_logits(session, ids));
  }
  EXPECT_LE(relative_error(logits[0], logits[1]), 2e-5);
  renamed->drop("model.layers.1.attn.v_lora.lora.0.weight");
  EXPECT_NE(load_error(renamed).find("layers.1"), std::string::npos) << load_error(renamed);
}

TEST(Rwkv7, ACheckpointWithoutConfigurationIsKnownByItsNames) {
  Checkpoint bare("torch", formats::Config("x.pth"));
  EXPECT_FALSE(models::architecture_name(bare));
  bare.put("blocks.0.att.r_k", {1, 1}, {0.0F});
  EXPECT_EQ(models::architecture_name(bare).value(), "rwkv7");
}

TEST(Rwkv7, SizesThatDoNotFitAreNamed) {
  const auto good = models::make_synthetic(kTiny, DType::kF32, 1);
  const auto error_after = [&](auto&& change) {
    auto changed = std::make_shared<Checkpoint>(*good);
    change(*changed);
    return load_error(changed);
  };
  EXPECT_EQ(error_after([](Checkpoint&) {}), "");
  const std::vector<std::pair<std::string, Shape>> wrong = {
      {"blocks.1.att.w1", {23, 32}},    {"blocks.1.att.w2", {31, 24}},          {"blocks.1.att.w1", {768}},
      {"blocks.0.att.x_g", {1, 1, 23}}, {"blocks.2.att.key.weight", {24, 25}},  {"blocks.1.att.r_k", {2, 8}},
      {"blocks.1.ffn.x_k", {1, 25}},    {"blocks.0.ffn.value.weight", {24, 1}}, {"blocks.0.ln0.bias", {1}},
      {"head.weight", {66, 24}},        {"blocks.1.att.v0", {1, 1, 1}},         {"blocks.1.att.w1", {24, 0}},
  };
  for (const auto& [name, shape] : wrong) {
    const std::string error = error_after([&, n = name, s = shape](Checkpoint& c) { c.reshape(n, s); });
    EXPECT_NE(error.find(name), std::string::npos) << name << to_string(shape) << ": " << error;
  }
  for (const Shape& shape : {Shape{3, 7}, Shape{24}, Shape{0, 8}, Shape{24, 24}}) {
    const std::string error = error_after([&](Checkpoint& c) { c.reshape("blocks.0.att.r_k", shape); });
    EXPECT_NE(error.find("does not add up"), std::string::npos) << error;
  }
  EXPECT_NE(error_after([](Checkpoint& c) { c.drop("blocks.1.att.v1"); }).find("blocks.1.att.v1"), std::string::npos);
  EXPECT_NE(error_after([](Checkpoint& c) { c.drop("blocks.0.att.r_k"); }).find("blocks.0.att.r_k"), std::string::npos);

  const auto gguf_error = [&](const char* key, std::int64_t value) {
    auto gguf = as_gguf_names(*good, kTiny);
    gguf->configuration().set(key, value);
    return load_error(gguf);
  };
  EXPECT_NE(gguf_error("rwkv7.wkv.head_size", 7).find("does not add up"), std::string::npos);
  EXPECT_NE(gguf_error("rwkv7.wkv.head_size", 0).find("rwkv7.wkv.head_size"), std::string::npos);
  EXPECT_NE(gguf_error("rwkv7.block_count", 4).find("blk.3."), std::string::npos);
  EXPECT_NE(gguf_error("rwkv7.embedding_length", 32).find("token_embd"), std::string::npos);
}

TEST(Rwkv7, StatesAreF32Only) {
  models::LoadOptions options;
  options.state_dtype = DType::kBF16;
  EXPECT_NE(load_error(models::make_synthetic(kTiny, DType::kF32, 1), options).find("states"), std::string::npos);
}

TEST(Rwkv7, PublishedShapeHasItsSize) {
  models::LoadOptions options;
  options.shapes_only = true;
  const auto model = models::load_model(
      models::make_synthetic(models::synthetic_shape("rwkv7-0.1b").value(), DType::kBF16, 1), options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_NEAR(static_cast<double>((*model)->info().parameters), 191e6, 0.5e6);
  // 12 layers of 12 heads of 64 by 64, and two rows of 768.
  EXPECT_EQ((*model)->state_layout().bytes(), 12U * 4 * (768 * 64 + 2 * 768));
}

}  // namespace
}  // namespace krait::tests
