// Phone book (Jelassi et al. 2024, "Repeat after me"): names with numbers, then some of the names again, each to be
// followed by its number, digit by digit. Unlike associative recall, key and value are several tokens long.
//
//   KQB:4071 / AXO:9955 / … ? AXO:9955  ->  9 9 5 5 at the colon and the three digits after it
#include <algorithm>
#include <cmath>

#include "krait/train/random_stream.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

constexpr std::int64_t kLetters = 26;

class PhoneBook final : public Task {
 public:
  PhoneBook(std::int64_t entries, std::int64_t queries, std::int64_t letters, std::int64_t digits)
      : entries_(entries), queries_(queries), letters_(letters), digits_(digits) {}

  std::int64_t vocabulary() const override { return kEnd + 1; }
  bool shows_answers() const override { return true; }
  // Nothing follows the last digit that is asked for, so it is no input.
  std::int64_t longest() const override { return (entries_ + queries_) * (letters_ + digits_ + 2) - 1; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kPhoneBook.name), index});
    std::int64_t names_there_are = 1;
    for (std::int64_t i = 0; i < letters_; ++i) names_there_are *= kLetters;
    const auto names = distinct_below(random, names_there_are, entries_);
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(entries_ * digits_));
    for (auto& digit : numbers) digit = static_cast<std::int32_t>(kFirstDigit + between(random, 0, 9));

    Example example;
    const auto put = [&](std::int32_t id, std::int32_t label = kNoLabel) {
      example.ids.push_back(id);
      example.labels.push_back(label);
    };
    const auto put_entry = [&](std::int64_t entry, bool asked) {
      std::int64_t name = names[static_cast<std::size_t>(entry)];
      for (std::int64_t i = 0; i < letters_; ++i, name /= kLetters) put(static_cast<std::int32_t>(name % kLetters));
      const auto number =
          std::span(numbers).subspan(static_cast<std::size_t>(entry * digits_), static_cast<std::size_t>(digits_));
      put(kColon, asked ? number.front() : kNoLabel);
      for (std::size_t i = 0; i < number.size(); ++i) {
        put(number[i], asked && i + 1 < number.size() ? number[i + 1] : kNoLabel);
      }
    };
    for (std::int64_t entry = 0; entry < entries_; ++entry) {
      put_entry(entry, false);
      put(kEnd);
    }
    for (const std::int64_t entry : distinct_below(random, entries_, queries_)) {
      put(kQuestion);
      put_entry(entry, true);
    }
    example.ids.pop_back();
    example.labels.pop_back();
    return example;
  }

  std::string spell(std::int32_t token) const override {
    if (token < kFirstDigit) return std::string(1, static_cast<char>('A' + token));
    if (token < kColon) return std::string(1, static_cast<char>('0' + token - kFirstDigit));
    return token == kColon ? ":" : token == kQuestion ? "?" : "/";
  }

 private:
  static constexpr std::int32_t kFirstDigit = kLetters, kColon = kFirstDigit + 10, kQuestion = kColon + 1,
                                kEnd = kColon + 2;
  std::int64_t entries_, queries_, letters_, digits_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t entries = values.at("entries"), queries = values.at("queries"), letters = values.at("letters");
  if (static_cast<double>(entries) > std::pow(kLetters, static_cast<double>(letters))) {
    return fail(ErrorCode::kInvalidArgument, "[task] phone_book: {} different names of {} letters", entries, letters);
  }
  if (queries > entries) {
    return fail(ErrorCode::kInvalidArgument, "[task] phone_book: {} queries of {} entries", queries, entries);
  }
  return std::make_unique<PhoneBook>(entries, queries, letters, values.at("digits"));
}

}  // namespace

const TaskKind kPhoneBook = {"phone_book",
                             "say the numbers of names",
                             {{"entries", 20, 1, 1 << 16, "names with numbers"},
                              {"queries", 1, 1, 1 << 16, "names that are asked for"},
                              {"letters", 3, 1, 12, "of a name"},
                              {"digits", 7, 1, 64, "of a number"}},
                             make};

}  // namespace krait::train
