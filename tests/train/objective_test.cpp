// What every objective must keep: labels bring the document back, and the loss is where something is written.
#include "krait/train/objective.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "krait/train/objective_masked.h"
#include "krait/train/objective_spans.h"
#include "krait/train/random_stream.h"
#include "krait/train/tokenizer_training.h"

namespace krait::train {
namespace {

using Ids = std::vector<std::int32_t>;

const ObjectiveTokens kTokens = {.end = 0, .separator = 1, .mask = 2, .first_sentinel = 3, .sentinels = 20};
constexpr std::int32_t kFirstOfText = 100;

// Tokens of text, some of them more than once.
Ids document_of(std::int64_t length, std::uint64_t seed = 1) {
  Random random = random_stream(seed, {});
  Ids ids;
  for (std::int64_t i = 0; i < length; ++i) {
    ids.push_back(kFirstOfText + static_cast<std::int32_t>(below(random, 900)));
  }
  return ids;
}

std::unique_ptr<Objective> objective_of(std::string_view name, const ObjectiveValues& values = {}) {
  auto made = make_objective(name, values, kTokens);
  EXPECT_TRUE(made) << made.error().message;
  return *std::move(made);
}

struct Parts {
  Ids source, target;
};

// Takes the form of objective.h apart, and checks it: nothing is asked for before the separator, everything after it,
// and each label is the input that follows.
Parts parts_of(const Example& example) {
  EXPECT_EQ(example.ids.size(), example.labels.size());
  const auto prefix = static_cast<std::size_t>(example.prefix);
  EXPECT_EQ(example.ids.at(prefix - 1), kTokens.separator);
  for (std::size_t i = 0; i + 1 < prefix; ++i) EXPECT_EQ(example.labels[i], kNoLabel);
  for (std::size_t i = prefix - 1; i + 1 < example.ids.size(); ++i) EXPECT_EQ(example.labels[i], example.ids[i + 1]);
  EXPECT_EQ(example.labels.back(), kTokens.end);
  Parts parts;
  parts.source.assign(example.ids.begin(), example.ids.begin() + example.prefix - 1);
  parts.target.assign(example.labels.begin() + example.prefix - 1, example.labels.end() - 1);
  return parts;
}

// Calls check(document, made) for documents and rooms of many sizes.
template <class Check>
void for_many(const Objective& objective, Check check) {
  Random random(5);
  for (const std::int64_t length : {2, 3, 10, 50, 300, 1000}) {
    for (const std::int64_t room : {4, 20, 100, 512, 4096}) {
      for (int i = 0; i < 5; ++i) {
        const Ids document = document_of(length, random.next());
        const auto made = objective.transform(document, room, random);
        if (!made) continue;
        EXPECT_LE(made->example.length(), room);
        EXPECT_GE(made->used, 1);
        EXPECT_LE(made->used, length);
        check(Ids(document.begin(), document.begin() + made->used), document, *made);
      }
    }
  }
}

Ids sorted(Ids ids) {
  std::ranges::sort(ids);
  return ids;
}

TEST(Objectives, FitAndRepeatAndRefuseWhatIsTooShort) {
  for (const ObjectiveKind* kind : objective_kinds()) {
    const auto objective = objective_of(kind->name);
    const Ids document = document_of(700);
    Random random(9), again(9);
    const auto made = objective->transform(document, 512, random);
    ASSERT_TRUE(made) << kind->name;
    EXPECT_LE(made->example.length(), 512);
    // Room is kept for the longest that can come out. A text that is half masked in spans of three is two thirds as
    // long.
    const bool masks = kind->name.starts_with("autoencoding");
    EXPECT_GE(made->example.length(), masks ? 380 : kind->name == "infilling" ? 450 : 500) << kind->name;
    EXPECT_EQ(objective->transform(document, 512, again)->example.ids, made->example.ids) << kind->name;
    EXPECT_FALSE(objective->transform({}, 512, random)) << kind->name;
    EXPECT_FALSE(objective->transform(document, 0, random)) << kind->name;
    for (std::int64_t room = 0; room < 60; ++room) {
      const auto small = objective->transform(document, room, random);
      if (small) {
        EXPECT_LE(small->example.length(), room) << kind->name;
        EXPECT_TRUE(std::ranges::any_of(small->example.labels, [](auto label) { return label != kNoLabel; }));
      }
    }
  }
}

TEST(Objectives, RefuseByName) {
  const auto refusal = [](std::string_view name, const ObjectiveValues& values) {
    const auto made = make_objective(name, values, kTokens);
    return made ? std::string() : made.error().message;
  };
  EXPECT_NE(refusal("guessing", {}).find("'guessing'"), std::string::npos);
  EXPECT_NE(refusal("infilling", {{"span", 0}}).find("span"), std::string::npos);
  EXPECT_NE(refusal("infilling", {{"spans", 2.5}}).find("whole"), std::string::npos);
  EXPECT_NE(refusal("infilling", {{"corruption", std::nan("")}}), "");
  EXPECT_NE(refusal("copying", {{"share", 1}}).find("'share'; it has none"), std::string::npos);
}

TEST(Objectives, NextTokenSaysWhatFollowsEverywhere) {
  for_many(*objective_of("next_token"), [](const Ids& text, const Ids& document, const ObjectiveExample& made) {
    EXPECT_EQ(made.example.ids, text);
    EXPECT_EQ(made.example.prefix, 0);
    for (std::size_t i = 0; i < text.size(); ++i) {
      EXPECT_EQ(made.example.labels[i], i + 1 < document.size() ? document[i + 1] : kNoLabel);
    }
  });
}

TEST(Objectives, PrefixLanguageModelingIsSilentInThePrefix) {
  const auto check = [](const Ids& text, const Ids& document, const ObjectiveExample& made) {
    EXPECT_EQ(made.example.ids, text);
    EXPECT_NEAR(static_cast<double>(made.example.prefix), 0.75 * static_cast<double>(text.size()), 1);
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool asked = static_cast<std::int64_t>(i) + 1 >= made.example.prefix && i + 1 < document.size();
      EXPECT_EQ(made.example.labels[i], asked ? document[i + 1] : kNoLabel);
    }
  };
  for_many(*objective_of("prefix_language_modeling"), check);
}

TEST(Objectives, CopyingWritesTheTextAgain) {
  for_many(*objective_of("copying"), [](const Ids& text, const Ids&, const ObjectiveExample& made) {
    const Parts parts = parts_of(made.example);
    EXPECT_EQ(parts.source, text);
    EXPECT_EQ(parts.target, text);
  });
}

TEST(Objectives, DeshufflingHasTheTokensInAnotherOrder) {
  for_many(*objective_of("deshuffling"), [](const Ids& text, const Ids&, const ObjectiveExample& made) {
    const Parts parts = parts_of(made.example);
    EXPECT_EQ(parts.target, text);
    EXPECT_EQ(sorted(parts.source), sorted(text));
    if (text.size() < 100) return;
    std::size_t moved = 0;
    for (std::size_t i = 0; i < text.size(); ++i) moved += parts.source[i] != text[i] ? 1 : 0;
    // Three quarters change places, of which about one token finds its own and a few meet an equal one.
    EXPECT_LE(moved, (3 * text.size() + 2) / 4);
    EXPECT_GE(moved, 3 * text.size() / 4 - 10);
  });
}

// The source is the text with stretches of it replaced by one mask each.
void expect_masked(const Ids& source, const Ids& text) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != kTokens.mask) {
      ASSERT_LT(at, text.size());
      ASSERT_EQ(source[i], text[at++]);
      continue;
    }
    ASSERT_LT(at, text.size()) << "a mask for nothing";
    if (i + 1 == source.size()) {
      at = text.size();
      continue;
    }
    ASSERT_NE(source[i + 1], kTokens.mask) << "two masks side by side";
    // What the mask hides ends where the rest of the source goes on: try the earliest such place that leaves enough.
    const std::size_t tokens_left =
        source.size() - i - 1 -
        static_cast<std::size_t>(
            std::count(source.begin() + static_cast<std::ptrdiff_t>(i) + 1, source.end(), kTokens.mask));
    std::size_t end = at + 1;
    const auto goes_on = [&](std::size_t from) {
      for (std::size_t j = i + 1; j < source.size() && source[j] != kTokens.mask; ++j, ++from) {
        if (from >= text.size() || text[from] != source[j]) return false;
      }
      return true;
    };
    while (end + tokens_left <= text.size() && !goes_on(end)) ++end;
    ASSERT_LE(end + tokens_left, text.size()) << "no place where the text goes on after a mask";
    at = end;
  }
  EXPECT_EQ(at, text.size());
}

// A document in which every token is another, so that what stands where can be told.
Ids all_different(std::int64_t length) {
  Ids ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back(kFirstOfText + static_cast<std::int32_t>(i));
  return ids;
}

TEST(Objectives, AutoencodingWritesTheWholeTextFromAMaskedOne) {
  const auto objective = objective_of("autoencoding");
  Random random(3);
  double masked = 0, spans = 0, tokens = 0;
  for (int i = 0; i < 200; ++i) {
    const Ids document = all_different(2 + 3 * i);
    const auto made = objective->transform(document, 10'000, random);
    ASSERT_TRUE(made);
    EXPECT_EQ(made->used, static_cast<std::int64_t>(document.size()));
    const Parts parts = parts_of(made->example);
    EXPECT_EQ(parts.target, document);
    expect_masked(parts.source, document);
    const auto here = static_cast<double>(std::ranges::count(parts.source, kTokens.mask));
    spans += here;
    masked += static_cast<double>(document.size() - parts.source.size()) + here;
    tokens += static_cast<double>(document.size());
  }
  // Half is asked for; lengths of at least 1 make the mean span 3.05. Some spans of short texts do not fit. The 10,000
  // spans have a standard deviation of 1.7 / 100 of the mean.
  EXPECT_NEAR(masked / spans, 3 + std::exp(-3.0), 5 * 0.017);
  EXPECT_NEAR(masked / tokens, 0.5, 0.03);
}

TEST(Objectives, AutoencodingWithDeshufflingShufflesTheMaskedText) {
  const auto objective = objective_of("autoencoding_with_deshuffling");
  Random random(3);
  const Ids document = all_different(400);
  const auto made = objective->transform(document, 10'000, random);
  ASSERT_TRUE(made);
  const Parts parts = parts_of(made->example);
  EXPECT_EQ(parts.target, document);
  Ids left;
  for (const std::int32_t id : parts.source) {
    if (id != kTokens.mask) left.push_back(id);
  }
  EXPECT_FALSE(std::ranges::is_sorted(left));
  left = sorted(left);
  EXPECT_TRUE(std::ranges::includes(document, left));
  EXPECT_EQ(std::ranges::unique(left).begin(), left.end()) << "a token twice";
}

TEST(Objectives, InfillingBringsTheTextBack) {
  for_many(*objective_of("infilling"), [](const Ids& text, const Ids&, const ObjectiveExample& made) {
    const Parts parts = parts_of(made.example);
    // Each sentinel's place in the source takes what the target has after it.
    std::map<std::int32_t, Ids> gaps;
    std::int32_t sentinel = -1;
    const auto is_sentinel = [](std::int32_t id) { return id >= 3 && id < 23; };
    for (const std::int32_t id : parts.target) {
      if (is_sentinel(id)) {
        EXPECT_TRUE(gaps.emplace(id, Ids()).second) << "a sentinel twice";
        EXPECT_EQ(id, sentinel < 0 ? 3 : sentinel + 1) << "sentinels out of order";
        sentinel = id;
      } else {
        ASSERT_GE(sentinel, 0);
        gaps[sentinel].push_back(id);
      }
    }
    Ids restored;
    for (const std::int32_t id : parts.source) {
      if (!is_sentinel(id)) {
        restored.push_back(id);
      } else {
        ASSERT_TRUE(gaps.contains(id));
        EXPECT_FALSE(gaps[id].empty());
        restored.insert(restored.end(), gaps[id].begin(), gaps[id].end());
        gaps.erase(id);
      }
    }
    EXPECT_TRUE(gaps.empty());
    EXPECT_EQ(restored, text);
  });
}

TEST(Objectives, SelectiveCopyingWritesWhatStandsBetweenTheDelimiters) {
  for (const double query_first : {0.0, 1.0}) {
    const auto objective = objective_of("selective_copying", {{"query_first", query_first}});
    Random random(4);
    std::size_t spans = 0;
    std::set<bool> in_order;
    for (int i = 0; i < 100; ++i) {
      const Ids document = all_different(900);
      const auto made = objective->transform(document, 1500, random);
      ASSERT_TRUE(made);
      const Parts parts = parts_of(made->example);
      const Ids text(document.begin(), document.begin() + made->used);
      Ids asked;
      if (query_first != 0) {
        ASSERT_TRUE(std::equal(text.rbegin(), text.rend(), parts.source.rbegin()));
        asked.assign(parts.source.begin(), parts.source.end() - made->used);
        EXPECT_EQ(asked.back(), kTokens.mask);
        asked.pop_back();
      } else {
        ASSERT_TRUE(std::equal(text.begin(), text.end(), parts.source.begin()));
        EXPECT_EQ(parts.source[text.size()], kTokens.mask);
        asked.assign(parts.source.begin() + made->used + 1, parts.source.end());
      }
      // Answers of a model that looks each query up: the token before the mask tells where the span begins, the one
      // after it where it ends.
      Ids answers;
      std::vector<std::int32_t> begins;
      for (std::size_t at = 0; at < asked.size();) {
        EXPECT_EQ(asked[at], 3 + static_cast<std::int32_t>(begins.size()));
        answers.push_back(asked[at]);
        std::size_t mask = at;
        while (asked[mask] != kTokens.mask) ++mask;
        std::size_t end = mask + 1;
        while (end < asked.size() && asked[end] >= kFirstOfText) ++end;
        EXPECT_GE(mask - at - 1, 8U);
        EXPECT_LE(mask - at - 1, 64U);
        EXPECT_GE(end - mask - 1, 8U);
        EXPECT_LE(end - mask - 1, 64U);
        for (std::int32_t id = asked[mask - 1] + 1; id < asked[mask + 1]; ++id) answers.push_back(id);
        begins.push_back(asked[mask - 1]);
        at = end;
      }
      EXPECT_EQ(parts.target, answers);
      spans += begins.size();
      in_order.insert(std::ranges::is_sorted(begins));
    }
    EXPECT_GT(spans, 600U);
    EXPECT_TRUE(in_order.contains(false)) << "queries come in the order of the text";
  }
}

TEST(Objectives, SpansLieApartAndAnywhere) {
  Random random(8);
  std::set<std::vector<std::int64_t>> seen;
  for (int i = 0; i < 2000; ++i) {
    const auto spans = place_spans(random, 7, std::vector<std::int64_t>{2, 1}, 1);
    ASSERT_EQ(spans.size(), 2U);
    EXPECT_GE(spans[0].begin, 0);
    EXPECT_GT(spans[1].begin, spans[0].end());
    EXPECT_LE(spans[1].end(), 7);
    seen.insert({spans[0].begin, spans[1].begin});
  }
  // 3 free tokens beside the spans and the one between them, in 3 stretches: 10 arrangements.
  EXPECT_EQ(seen.size(), 10U);
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) sum += static_cast<double>(poisson(random, 3));
  EXPECT_NEAR(sum / 10'000, 3, 5 * std::sqrt(3.0 / 10'000));
}

TEST(MaskedObjective, HidesItsShareAndAsksForNothingElse) {
  Random random(2);
  for (const MaskedPlaces& places : {MaskedPlaces{0.15, 1}, {0.5, 1}, {0.5, 8}, {1, 1}}) {
    const Ids document = document_of(400);
    const Example example = masked_tokens(document, places, kTokens.mask, random);
    EXPECT_EQ(example.prefix, 400);
    std::int64_t hidden = 0;
    for (std::size_t i = 0; i < document.size(); ++i) {
      if (example.labels[i] == kNoLabel) {
        EXPECT_EQ(example.ids[i], document[i]);
      } else {
        EXPECT_EQ(example.ids[i], kTokens.mask);
        EXPECT_EQ(example.labels[i], document[i]);
        ++hidden;
      }
    }
    EXPECT_EQ(hidden, static_cast<std::int64_t>(400 * places.share));
  }
  EXPECT_TRUE(hidden_places(0, {}, random).empty());
  EXPECT_EQ(hidden_places(1, {}, random), std::vector<bool>{true});
}

TEST(MaskedObjective, SignalsHaveAChannelThatSaysWhatIsHidden) {
  Random random(2);
  std::vector<float> signal;
  for (int i = 0; i < 120; ++i) signal.push_back(static_cast<float>(i) + 1);
  const MaskedSignal masked = masked_signal(signal, 3, {0.25, 1}, random);
  EXPECT_EQ(masked.targets, signal);
  EXPECT_EQ(masked.inputs.size(), 40U * 4);
  EXPECT_EQ(std::ranges::count(masked.loss, 1), 10);
  for (std::size_t t = 0; t < 40; ++t) {
    EXPECT_EQ(masked.inputs[t * 4 + 3], masked.loss[t]);
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_EQ(masked.inputs[t * 4 + c], masked.loss[t] == 1 ? 0 : signal[t * 3 + c]);
    }
  }
}

TEST(Objectives, FindTheirTokensInATokenizer) {
  TokenizerTrainingOptions options;
  options.vocabulary = 300;
  options.special_tokens = objective_special_tokens(5);
  const auto trained = TokenizerTrainer::make(options)->train();
  ASSERT_TRUE(trained);
  const auto tokenizer = formats::parse_tokenizer_json(tokenizer_files(*trained)->tokenizer, "t");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const auto tokens = find_objective_tokens(**tokenizer);
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_EQ(tokens->end, 0);
  EXPECT_EQ(tokens->separator, 1);
  EXPECT_EQ(tokens->mask, 2);
  EXPECT_EQ(tokens->first_sentinel, 3);
  EXPECT_EQ(tokens->sentinels, 5);
  const auto plain = TokenizerTrainer::make({.vocabulary = 300})->train();
  const auto without = formats::parse_tokenizer_json(tokenizer_files(*plain)->tokenizer, "t");
  const auto missing = find_objective_tokens(**without);
  ASSERT_FALSE(missing);
  for (const char* word : {"<|separator|>, [[mask]], [[mask_0]]", "--objectives"}) {
    EXPECT_NE(missing.error().message.find(word), std::string::npos) << missing.error().message;
  }
}

}  // namespace
}  // namespace krait::train
