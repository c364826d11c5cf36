// Each task against its definition, worked out here in another way from the tokens alone.
#include "krait/train/task.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace krait::train {
namespace {

constexpr int kExamples = 200;

std::unique_ptr<Task> task_of(std::string_view name, const TaskValues& values = {}) {
  auto made = make_task(name, values);
  EXPECT_TRUE(made) << made.error().message;
  return *std::move(made);
}

std::string refusal(std::string_view name, const TaskValues& values) {
  const auto made = make_task(name, values);
  return made ? std::string() : made.error().message;
}

std::vector<std::string> spelled(const Task& task, const Example& example) {
  std::vector<std::string> words;
  for (const std::int32_t id : example.ids) words.push_back(task.spell(id));
  return words;
}

std::vector<std::size_t> labelled_places(const Example& example) {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < example.labels.size(); ++i) {
    if (example.labels[i] != kNoLabel) places.push_back(i);
  }
  return places;
}

TEST(Tasks, StayInTheirVocabularyAndRepeat) {
  for (const TaskKind* kind : task_kinds()) {
    if (!kind->paths.empty()) continue;  // of files, which tests of their own write
    const auto task = task_of(kind->name);
    std::set<std::vector<std::int32_t>> different;
    std::set<std::string> words;
    for (std::int32_t id = 0; id < task->vocabulary(); ++id) words.insert(task->spell(id));
    EXPECT_EQ(static_cast<std::int64_t>(words.size()), task->vocabulary()) << kind->name << " spells two tokens alike";
    for (std::uint64_t i = 0; i < 50; ++i) {
      const Example example = task->example(1, i);
      EXPECT_EQ(example.ids.size(), example.labels.size());
      EXPECT_LE(example.length(), task->longest()) << kind->name;
      EXPECT_FALSE(labelled_places(example).empty()) << kind->name;
      for (const std::int32_t id : example.ids) ASSERT_TRUE(id >= 0 && id < task->vocabulary()) << kind->name;
      for (const std::size_t place : labelled_places(example)) {
        ASSERT_TRUE(example.labels[place] >= 0 && example.labels[place] < task->vocabulary()) << kind->name;
      }
      const Example again = task_of(kind->name)->example(1, i);
      EXPECT_EQ(again.ids, example.ids);
      EXPECT_EQ(again.labels, example.labels);
      EXPECT_NE(task->example(2, i).ids, example.ids) << kind->name << " under another seed";
      different.insert(example.ids);
    }
    EXPECT_GE(different.size(), 49U) << kind->name;  // short bit strings may meet
  }
}

TEST(Tasks, RefuseByName) {
  EXPECT_NE(refusal("parrot", {}).find("'parrot'"), std::string::npos);
  EXPECT_NE(refusal("parrot", {}).find("list_ops"), std::string::npos);
  EXPECT_NE(refusal("parity", {{"lenght", 3}}).find("'lenght'"), std::string::npos);
  EXPECT_NE(refusal("parity", {{"length", 0}}).find("is 0, not from 1"), std::string::npos);
  EXPECT_NE(refusal("parity", {{"length", 5}, {"shortest", 6}}), "");
  EXPECT_NE(refusal("selective_copying", {{"length", 5}, {"count", 6}}), "");
  EXPECT_NE(refusal("associative_recall", {{"length", 31}, {"pairs", 8}}), "");
  EXPECT_NE(refusal("associative_recall", {{"keys", 7}, {"pairs", 8}}), "");
  EXPECT_NE(refusal("joint_recall", {{"contexts", 2}, {"keys", 2}, {"queries", 5}}), "");
  EXPECT_NE(refusal("joint_recall", {{"contexts", 17}, {"context_symbols", 16}}), "");
  EXPECT_NE(refusal("phone_book", {{"entries", 27}, {"letters", 1}}), "");
  EXPECT_NE(refusal("modular_arithmetic", {{"length", 4}, {"shortest", 4}}), "");
  EXPECT_EQ(refusal("modular_arithmetic", {{"length", 4}, {"shortest", 4}, {"brackets", 1}}), "");
  EXPECT_NE(refusal("list_ops", {{"depth", 1}, {"shortest", 5}, {"length", 9}}), "");
}

TEST(Tasks, BatchHasOneExampleARow) {
  const auto task = task_of("parity", {{"length", 10}, {"shortest", 2}});
  const Batch batch = task_batch(*task, 3, 100, 4);
  EXPECT_EQ(batch.batch, 4);
  EXPECT_EQ(batch.length, 10);
  for (std::int64_t row = 0; row < 4; ++row) {
    const Example example = task->example(3, 100 + static_cast<std::uint64_t>(row));
    EXPECT_TRUE(std::equal(example.ids.begin(), example.ids.end(), batch.ids.begin() + row * 10));
  }
  EXPECT_EQ(batch.labelled(), 4);
}

TEST(Tasks, ScoreCountsAnswersAndExamples) {
  TaskScore score;
  score.add(std::vector<std::int32_t>{kNoLabel, 1, 2}, std::vector<std::int32_t>{7, 1, 3});
  score.add(std::vector<std::int32_t>{4, kNoLabel}, std::vector<std::int32_t>{4, 9});
  score.add(std::vector<std::int32_t>{kNoLabel}, std::vector<std::int32_t>{4});  // no answer wanted: no example
  EXPECT_EQ(score.examples, 2);
  EXPECT_EQ(score.exact, 1);
  EXPECT_DOUBLE_EQ(score.accuracy(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(score.exact_match(), 0.5);
  EXPECT_EQ(TaskScore().accuracy(), 0);

  const auto task = task_of("phone_book", {{"queries", 2}});
  const Batch batch = task_batch(*task, 0, 0, 3);
  auto predictions = batch.labels;
  TaskScore perfect;
  perfect.add(batch, predictions);
  EXPECT_EQ(perfect.examples, 3);
  EXPECT_EQ(perfect.answers, 3 * 2 * 7);
  EXPECT_EQ(perfect.exact_match(), 1);
  const auto wrong = std::ranges::find_if(predictions, [](std::int32_t label) { return label != kNoLabel; });
  *wrong += 1;
  TaskScore nearly;
  nearly.add(batch, predictions);
  EXPECT_EQ(nearly.right, 41);
  EXPECT_EQ(nearly.exact, 2);
}

TEST(SelectiveCopying, AsksForTheSymbolsInOrder) {
  const auto task = task_of("selective_copying", {{"length", 30}, {"count", 5}, {"symbols", 3}});
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    const Example example = task->example(1, i);
    const auto words = spelled(*task, example);
    std::vector<std::string> symbols, answers;
    for (std::size_t place = 0; place < 30; ++place) {
      if (words[place] != "noise") symbols.push_back(words[place]);
    }
    ASSERT_EQ(labelled_places(example), (std::vector<std::size_t>{30, 31, 32, 33, 34}));
    for (std::size_t place = 30; place < 35; ++place) {
      EXPECT_EQ(words[place], "marker");
      answers.push_back(task->spell(example.labels[place]));
    }
    EXPECT_EQ(symbols, answers);
  }
}

TEST(SelectiveCopying, MayHaveRowsOfFewerSymbols) {
  const auto task = task_of("selective_copying", {{"length", 30}, {"count", 5}, {"fewest", 2}});
  std::set<std::size_t> counts;
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    const Example example = task->example(1, i);
    const auto words = spelled(*task, example);
    const auto markers = static_cast<std::size_t>(std::ranges::count(words, "marker"));
    EXPECT_EQ(example.ids.size(), 30 + markers);
    EXPECT_EQ(std::ranges::count(words, "noise"), static_cast<std::ptrdiff_t>(30 - markers));
    counts.insert(markers);
  }
  EXPECT_EQ(counts, (std::set<std::size_t>{2, 3, 4, 5}));
  EXPECT_NE(refusal("selective_copying", {{"count", 3}, {"fewest", 4}}).find("fewest 4 is above count 3"),
            std::string::npos);
}

TEST(InductionHeads, AsksForWhatFollowed) {
  const auto task = task_of("induction_heads", {{"length", 9}, {"symbols", 4}});
  std::set<std::size_t> places;
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    const Example example = task->example(1, i);
    const auto words = spelled(*task, example);
    EXPECT_EQ(std::ranges::count(words, "special"), 2);
    const auto first = static_cast<std::size_t>(std::ranges::find(words, "special") - words.begin());
    places.insert(first);
    ASSERT_EQ(labelled_places(example), std::vector<std::size_t>{8});
    EXPECT_EQ(words[8], "special");
    EXPECT_EQ(example.labels[8], example.ids[first + 1]);
  }
  EXPECT_EQ(places, (std::set<std::size_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(InductionHeads, MayBeOfDifferentLengths) {
  const auto task = task_of("induction_heads", {{"length", 9}, {"shortest", 3}});
  std::set<std::int64_t> lengths;
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    const Example example = task->example(5, i);
    lengths.insert(example.length());
    const auto first = std::ranges::find(example.ids, 15);
    EXPECT_EQ(example.labels.back(), *(first + 1));
    EXPECT_LT(first + 1, example.ids.end() - 1);
  }
  EXPECT_EQ(lengths, (std::set<std::int64_t>{3, 4, 5, 6, 7, 8, 9}));
  EXPECT_NE(refusal("induction_heads", {{"length", 9}, {"shortest", 10}}), "");
  EXPECT_NE(refusal("induction_heads", {{"length", 9}, {"shortest", 2}}), "");
}

TEST(AssociativeRecall, AsksForTheValueOfEachKeyOnceNearOnesMoreOften) {
  const auto task = task_of("associative_recall", {{"length", 64}, {"pairs", 4}, {"keys", 9}, {"values", 5}});
  std::map<std::size_t, int> asked_at;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const Example example = task->example(1, i);
    std::map<std::int32_t, std::int32_t> value_of;
    for (std::size_t pair = 0; pair < 4; ++pair) value_of[example.ids[2 * pair]] = example.ids[2 * pair + 1];
    ASSERT_EQ(value_of.size(), 4U) << "a key twice";
    const auto places = labelled_places(example);
    ASSERT_EQ(places.size(), 4U);
    for (std::size_t place = 8; place < 64; ++place) {
      const bool asked = std::ranges::find(places, place) != places.end();
      EXPECT_EQ(task->spell(example.ids[place]) != ".", asked);
      if (!asked) continue;
      ++asked_at[place];
      EXPECT_EQ(value_of.at(example.ids[place]), example.labels[place]);
      value_of.erase(example.ids[place]);
    }
    EXPECT_TRUE(value_of.empty());
  }
  // Of 28 gaps in proportion to 1/gap (sum 3.93) the nearest is drawn first with probability 0.25 and among four with
  // well over a half; the farthest with about four times 0.009 = 0.04 and a little more.
  EXPECT_GT(asked_at[8], 500);
  EXPECT_LT(asked_at[62], 120);
}

TEST(AssociativeRecall, RowsMayHaveFewerPairs) {
  const auto task = task_of("associative_recall", {{"length", 32}, {"pairs", 5}, {"fewest", 2}, {"keys", 9}});
  std::set<std::size_t> counts;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Example example = task->example(1, i);
    const auto places = labelled_places(example);
    counts.insert(places.size());
    ASSERT_EQ(example.ids.size(), 32U);
    for (std::size_t pair = 0; pair < places.size(); ++pair) {
      const auto asked =
          std::ranges::find_if(places, [&](std::size_t place) { return example.ids[place] == example.ids[2 * pair]; });
      ASSERT_NE(asked, places.end());
      EXPECT_EQ(example.labels[*asked], example.ids[2 * pair + 1]);
    }
  }
  EXPECT_EQ(counts, (std::set<std::size_t>{2, 3, 4, 5}));
  EXPECT_NE(refusal("associative_recall", {{"pairs", 3}, {"fewest", 4}}).find("fewest 4 is above pairs 3"),
            std::string::npos);
}

TEST(JointRecall, RowsMayHaveFewerContexts) {
  const auto task = task_of("joint_recall", {{"contexts", 4}, {"fewest_contexts", 1}, {"keys", 3}, {"queries", 5}});
  std::set<std::size_t> lengths, asked;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Example example = task->example(1, i);
    lengths.insert(example.ids.size());
    asked.insert(labelled_places(example).size());
  }
  // A context and three keys with values each, then pairs of context and key: no more than the three there are of one.
  EXPECT_EQ(lengths, (std::set<std::size_t>{7 + 6, 14 + 10, 21 + 10, 28 + 10}));
  EXPECT_EQ(asked, (std::set<std::size_t>{3, 5}));
  EXPECT_NE(refusal("joint_recall", {{"contexts", 3}, {"fewest_contexts", 4}}), "");
}

TEST(JointRecall, AsksForTheValueOfAKeyInAContext) {
  const auto task = task_of("joint_recall", {{"contexts", 3}, {"keys", 4}, {"queries", 6}, {"values", 50}});
  int told_by_key_alone = 0, asked = 0;
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    const Example example = task->example(1, i);
    const auto words = spelled(*task, example);
    std::map<std::pair<std::string, std::string>, std::int32_t> value_of;
    std::map<std::string, std::set<std::int32_t>> values_of_key;
    std::string context;
    std::size_t place = 0;
    for (; place < 3 * 9; ++place) {
      if (words[place].starts_with("context")) {
        context = words[place];
      } else if (words[place].starts_with("key")) {
        EXPECT_TRUE(words[place + 1].starts_with("value"));
        EXPECT_TRUE(value_of.emplace(std::pair(context, words[place]), example.ids[place + 1]).second);
        values_of_key[words[place]].insert(example.ids[place + 1]);
      }
    }
    ASSERT_EQ(value_of.size(), 12U);
    EXPECT_EQ(values_of_key.size(), 4U) << "all contexts have the same keys";
    std::set<std::pair<std::string, std::string>> queries;
    for (; place < words.size(); place += 2) {
      EXPECT_EQ(example.labels[place], kNoLabel);
      EXPECT_EQ(example.labels[place + 1], value_of.at({words[place], words[place + 1]}));
      queries.insert({words[place], words[place + 1]});
      ++asked;
      told_by_key_alone += values_of_key[words[place + 1]].size() == 1 ? 1 : 0;
    }
    EXPECT_EQ(queries.size(), 6U);
    EXPECT_EQ(labelled_places(example).size(), 6U);
  }
  // Three values out of 50 agree with probability 1/2500.
  EXPECT_LT(told_by_key_alone, asked / 100);
}

TEST(PhoneBook, AsksForTheDigitsOfNamesOneByOne) {
  const auto task = task_of("phone_book", {{"entries", 10}, {"queries", 3}, {"letters", 2}, {"digits", 4}});
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    const Example example = task->example(1, i);
    EXPECT_EQ(example.length(), task->longest());
    std::string text;
    for (const std::string& word : spelled(*task, example)) text += word;
    std::map<std::string, std::string> book;
    for (std::size_t entry = 0; entry < 10; ++entry) {
      const std::string line = text.substr(entry * 8, 8);
      EXPECT_EQ(line[2], ':');
      EXPECT_EQ(line[7], '/');
      EXPECT_TRUE(book.emplace(line.substr(0, 2), line.substr(3, 4)).second) << "a name twice";
    }
    std::set<std::string> asked;
    for (std::size_t query = 0; query < 3; ++query) {
      const std::size_t at = 80 + query * 8;
      EXPECT_EQ(text[at], '?');
      const std::string name = text.substr(at + 1, 2);
      EXPECT_TRUE(asked.insert(name).second);
      for (std::size_t digit = 0; digit < 4; ++digit) {
        // The digit before is there to be read, the last of all is not.
        EXPECT_EQ(task->spell(example.labels[at + 3 + digit]), std::string(1, book.at(name)[digit]));
      }
    }
    EXPECT_EQ(labelled_places(example).size(), 12U);
  }
}

TEST(Parity, CountsOnes) {
  for (const bool every_place : {false, true}) {
    const auto task = task_of("parity", {{"length", 9}, {"shortest", 4}, {"every_place", every_place ? 1 : 0}});
    std::set<std::size_t> lengths;
    int odd = 0;
    for (std::uint64_t i = 0; i < kExamples; ++i) {
      const Example example = task->example(1, i);
      lengths.insert(example.ids.size());
      int ones = 0;
      for (std::size_t place = 0; place < example.ids.size(); ++place) {
        ones += example.ids[place];
        const bool asked = every_place || place + 1 == example.ids.size();
        EXPECT_EQ(example.labels[place], asked ? ones % 2 : kNoLabel);
      }
      odd += ones % 2;
    }
    EXPECT_EQ(lengths, (std::set<std::size_t>{4, 5, 6, 7, 8, 9}));
    // 200 fair coins, 5 standard deviations.
    EXPECT_NEAR(odd, kExamples / 2, 5 * std::sqrt(kExamples) / 2);
  }
}

TEST(Parity, MayBeginWithATokenAndHaveRowsOfManyOnesAndOfFew) {
  const auto task = task_of("parity", {{"length", 40}, {"shortest", 40}, {"begins", 1}, {"own_share", 1}});
  EXPECT_EQ(task->vocabulary(), 3);
  EXPECT_EQ(task->longest(), 41);
  std::int64_t few = 0, many = 0;
  for (std::uint64_t i = 0; i < 400; ++i) {
    const Example example = task->example(1, i);
    ASSERT_EQ(example.ids.size(), 41U);
    EXPECT_EQ(example.ids[0], 2);
    EXPECT_EQ(task->spell(example.ids[0]), "begin");
    EXPECT_EQ(example.labels[0], kNoLabel);
    const auto ones = std::count(example.ids.begin() + 1, example.ids.end(), 1);
    EXPECT_EQ(std::count(example.ids.begin() + 1, example.ids.end(), 0), 40 - ones);
    EXPECT_EQ(example.labels.back(), ones % 2);
    few += ones <= 4 ? 1 : 0;
    many += ones >= 36 ? 1 : 0;
  }
  // Each is a ninth of the shares' range or so; of rows of half ones, one in half a million.
  EXPECT_GT(few, 20);
  EXPECT_GT(many, 20);
}

// A parser by recursive descent, on integers that are reduced at the very end: 39 tokens hold at most 20 numbers below
// 5, whose product is below 2^47.
class Expression {
 public:
  explicit Expression(std::string text) : text_(std::move(text)) {}
  std::int64_t value(std::int64_t modulus) {
    const std::int64_t sum = terms();
    EXPECT_EQ(text_.substr(at_), "=");
    return (sum % modulus + modulus) % modulus;
  }

 private:
  std::int64_t terms() {
    std::int64_t sum = product();
    while (text_[at_] == '+' || text_[at_] == '-') sum += text_[at_++] == '+' ? product() : -product();
    return sum;
  }
  std::int64_t product() {
    std::int64_t value = factor();
    while (text_[at_] == '*') {
      ++at_;
      value *= factor();
    }
    return value;
  }
  std::int64_t factor() {
    const char c = text_[at_++];
    if (c == '-') return -factor();
    if (c != '(') return c - '0';
    const std::int64_t value = terms();
    EXPECT_EQ(text_[at_++], ')');
    return value;
  }
  std::string text_;
  std::size_t at_ = 0;
};

TEST(ModularArithmetic, AsksForTheValue) {
  for (const bool brackets : {false, true}) {
    const auto task = task_of("modular_arithmetic", {{"length", 39}, {"shortest", 1}, {"brackets", brackets ? 1 : 0}});
    std::set<std::size_t> lengths;
    std::set<char> signs;
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const Example example = task->example(1, i);
      std::string text;
      for (const std::string& word : spelled(*task, example)) text += word;
      lengths.insert(text.size() - 1);
      signs.insert(text.begin(), text.end());
      ASSERT_EQ(labelled_places(example), std::vector<std::size_t>{text.size() - 1});
      EXPECT_EQ(example.labels.back(), Expression(text).value(5)) << text;
    }
    EXPECT_EQ(lengths.size(), brackets ? 39U : 20U);
    EXPECT_EQ(signs.contains('('), brackets);
  }
}

std::int32_t list_ops_value(const std::vector<std::string>& words) {
  std::vector<std::pair<std::string, std::vector<std::int32_t>>> open = {{"", {}}};
  for (const std::string& word : words) {
    if (word.starts_with('[')) {
      open.emplace_back(word, std::vector<std::int32_t>());
    } else if (word == "]") {
      auto [name, values] = open.back();
      open.pop_back();
      EXPECT_GE(values.size(), 2U);
      std::int32_t value = 0;
      if (name == "[MIN") value = *std::ranges::min_element(values);
      if (name == "[MAX") value = *std::ranges::max_element(values);
      if (name == "[SM") {
        for (const std::int32_t v : values) value = (value + v) % 10;
      }
      if (name == "[MED") {
        std::multiset<std::int32_t> sorted(values.begin(), values.end());
        const auto half = static_cast<std::ptrdiff_t>(sorted.size() / 2);
        const double upper = *std::next(sorted.begin(), half);
        const double lower = sorted.size() % 2 == 1 ? upper : *std::next(sorted.begin(), half - 1);
        value = static_cast<std::int32_t>((lower + upper) / 2);
      }
      open.back().second.push_back(value);
    } else {
      open.back().second.push_back(word[0] - '0');
    }
  }
  EXPECT_EQ(open.size(), 1U);
  EXPECT_EQ(open[0].second.size(), 1U);
  return open[0].second.at(0);
}

TEST(ListOps, AsksForTheValue) {
  for (const TaskValues& values : {TaskValues{}, {{"length", 60}, {"shortest", 4}, {"depth", 4}, {"arguments", 3}}}) {
    const auto task = task_of("list_ops", values);
    for (std::uint64_t i = 0; i < kExamples; ++i) {
      const Example example = task->example(1, i);
      EXPECT_GE(example.length(), values.empty() ? 501 : 4);
      EXPECT_LE(example.length(), values.empty() ? 1999 : 60);
      ASSERT_EQ(labelled_places(example), std::vector<std::size_t>{example.ids.size() - 1});
      EXPECT_EQ(example.labels.back(), list_ops_value(spelled(*task, example)));
    }
  }
}

// The Long Range Arena's rules, simulated with other code on 1,500 trees: mean length 1,067, label 0 of 16.6 %, label 9
// of 15.7 %, the others of 7 to 10 %.
TEST(ListOps, IsDistributedAsTheLongRangeArena) {
  const auto task = task_of("list_ops");
  constexpr int kTrees = 1500;
  double sum = 0, squares = 0;
  std::array<double, 10> labels{};
  for (std::uint64_t i = 0; i < kTrees; ++i) {
    const Example example = task->example(7, i);
    const auto length = static_cast<double>(example.length());
    sum += length;
    squares += length * length;
    ++labels[static_cast<std::size_t>(example.labels.back())];
  }
  const double mean = sum / kTrees;
  const double deviation = std::sqrt(squares / kTrees - mean * mean);
  // Both sides are estimates of as many trees: 4 standard deviations of their difference.
  EXPECT_NEAR(mean, 1067, 4 * deviation * std::sqrt(2.0 / kTrees));
  const auto margin = [](double share) { return 4 * std::sqrt(2 * share * (1 - share) / kTrees); };
  EXPECT_NEAR(labels[0] / kTrees, 0.166, margin(0.166));
  EXPECT_NEAR(labels[9] / kTrees, 0.157, margin(0.157));
  for (std::size_t label = 1; label < 9; ++label) EXPECT_NEAR(labels[label] / kTrees, 0.085, 0.015 + margin(0.085));
}

}  // namespace
}  // namespace krait::train
