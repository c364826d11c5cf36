#include "krait/runtime/state_saving.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

using formats::StateObject;
using formats::StateSection;
using formats::StateSource;
using models::StateTensor;

constexpr std::string_view kLogits = "logits";
constexpr std::string_view kTokens = "tokens";
constexpr std::string_view kCounts = "sampler.counts";

// A tensor of pages has a row for every token that its pages hold.
Shape shape_at(const StateTensor& tensor, std::int64_t pages) {
  Shape shape = tensor.shape;
  if (tensor.paged) shape.front() *= pages;
  return shape;
}

std::uint64_t bytes_at(const StateTensor& tensor, std::int64_t pages) {
  return tensor.paged ? tensor.bytes * static_cast<std::uint64_t>(pages) : tensor.bytes;
}

template <class T>
Result<std::vector<T>> read_numbers(const StateObject& object, const StateSection& section, DType dtype,
                                    std::uint64_t most) {
  if (section.dtype != dtype || section.bytes % sizeof(T) != 0 || section.bytes / sizeof(T) > most) {
    return fail(ErrorCode::kCorrupt, "[state] section \"{}\" has {} bytes of {}: more than {} numbers of {} ({})",
                section.name, section.bytes, to_string(section.dtype), most, to_string(dtype), object.origin());
  }
  std::vector<T> numbers(section.bytes / sizeof(T));
  KRAIT_TRY(object.read(section, std::as_writable_bytes(std::span(numbers))));
  return numbers;
}

}  // namespace

StateSections::StateSections(const Engine& engine, const formats::StateIdentity& identity, const State& state,
                             const StateExtras& extras) {
  description_.identity = identity;
  description_.position = state.position();
  description_.prefix = state.prefix();
  description_.note = extras.note;
  const models::StateLayout& layout = engine.model().state_layout();
  const std::int64_t pages = layout.pages_at(state.position());
  for (const StateTensor& tensor : layout.tensors()) {
    StateSource source{
        tensor.name, std::string(models::to_string(tensor.kind)), tensor.dtype, shape_at(tensor, pages), {}};
    if (tensor.paged) {
      for (std::int64_t page = 0; page < pages; ++page) {
        source.pieces.emplace_back(state.pages()[static_cast<std::size_t>(page)] + tensor.offset, tensor.bytes);
      }
    } else {
      source.pieces.emplace_back(state.bundle() + tensor.offset, tensor.bytes);
    }
    sources_.push_back(std::move(source));
  }
  const auto add_numbers = [&](std::string_view name, std::string_view role, DType dtype, auto numbers) {
    if (numbers.empty()) return;
    sources_.push_back({std::string(name),
                        std::string(role),
                        dtype,
                        {static_cast<std::int64_t>(numbers.size())},
                        {std::as_bytes(numbers)}});
  };
  add_numbers(kLogits, "logits", DType::kF32, state.logits());
  if (!extras.tokens.empty()) {
    KRAIT_CHECK(extend_prefix({}, extras.tokens) == state.prefix(), "these {} tokens are not those before the state",
                extras.tokens.size());
    add_numbers(kTokens, "tokens", DType::kI32, extras.tokens);
  }
  if (extras.sampler != nullptr) {
    SavedSampler saved = extras.sampler->save();
    description_.sampler = {std::move(saved.options), saved.seed, saved.random};
    counts_ = std::move(saved.counts);
    add_numbers(kCounts, "counts", DType::kI64, std::span<const std::int64_t>(counts_));
  }
}

Result<void> save_state(const std::filesystem::path& path, const Engine& engine, const formats::StateIdentity& identity,
                        const State& state, const StateExtras& extras) {
  const StateSections sections(engine, identity, state, extras);
  return formats::write_state_file(path, sections.description(), sections.sources(), {extras.zstd_level});
}

Result<void> check_identity(const StateObject& object, const models::StateLayout& layout, std::int64_t vocabulary,
                            const formats::StateIdentity& identity) {
  const formats::StateIdentity& theirs = object.description().identity;
  const auto differs = [&](std::string_view what, std::string_view found, std::string_view expected) {
    return fail(ErrorCode::kInvalidArgument, "[state] the state belongs to another {}: {}, and this is {} ({})", what,
                found, expected, object.origin());
  };
  if (theirs.architecture != identity.architecture) {
    return differs("architecture", theirs.architecture, identity.architecture);
  }
  if (theirs.model != identity.model) return differs("model", theirs.model.hex(), identity.model.hex());
  if (theirs.tokenizer != identity.tokenizer) {
    return differs("tokenizer", theirs.tokenizer.hex(), identity.tokenizer.hex());
  }
  if (theirs.weights != identity.weights) return differs("format of weights", theirs.weights, identity.weights);

  const std::int64_t position = object.description().position;
  // What a position asks for is only believed when the sections are there that would hold it.
  const std::int64_t pages = layout.pages_at(position);
  for (const StateTensor& tensor : layout.tensors()) {
    const StateSection* section = object.find(tensor.name);
    if (section == nullptr) {
      return fail(ErrorCode::kInvalidArgument, "[state] the state has no tensor \"{}\", which the model has ({})",
                  tensor.name, object.origin());
    }
    if (section->dtype != tensor.dtype) {
      return differs(fmt::format("dtype of \"{}\"", tensor.name), to_string(section->dtype), to_string(tensor.dtype));
    }
    if (tensor.paged &&
        static_cast<std::uint64_t>(pages) > object.bytes() * 1024 / std::max<std::uint64_t>(tensor.bytes, 1) + 1) {
      return fail(ErrorCode::kCorrupt, "[state] position {} asks for {} pages in an object of {} bytes ({})", position,
                  pages, object.bytes(), object.origin());
    }
    if (section->shape != shape_at(tensor, pages) || section->bytes != bytes_at(tensor, pages)) {
      return differs(fmt::format("shape of \"{}\"", tensor.name),
                     fmt::format("{} in {} bytes", to_string(section->shape), section->bytes),
                     fmt::format("{} in {} bytes", to_string(shape_at(tensor, pages)), bytes_at(tensor, pages)));
    }
  }
  const StateSection* logits = object.find(kLogits);
  if (logits != nullptr && logits->shape != Shape{vocabulary}) {
    return differs("vocabulary", to_string(logits->shape), fmt::format("[{}]", vocabulary));
  }
  return {};
}

Result<RestoredState> restore_state(const StateObject& object, Engine& engine, const formats::StateIdentity& identity) {
  const models::StateLayout& layout = engine.model().state_layout();
  const std::int64_t vocabulary = engine.model().info().vocabulary;
  KRAIT_TRY(check_identity(object, layout, vocabulary, identity));
  KRAIT_TRY(object.verify());

  const formats::StateDescription& description = object.description();
  StateSlot slot = engine.states().acquire();
  std::byte* const bundle = slot.make_room(0, description.position, models::StateLayout::kPageTokens);
  const std::int64_t pages = layout.pages_at(description.position);
  std::vector<std::byte> gathered;
  for (const StateTensor& tensor : layout.tensors()) {
    const StateSection& section = *object.find(tensor.name);
    if (!tensor.paged) {
      KRAIT_TRY(object.read(section, {bundle + tensor.offset, tensor.bytes}));
      continue;
    }
    gathered.resize(section.bytes);
    KRAIT_TRY(object.read(section, gathered));
    for (std::int64_t page = 0; page < pages; ++page) {
      std::copy_n(gathered.data() + static_cast<std::uint64_t>(page) * tensor.bytes, tensor.bytes,
                  slot.pages()[static_cast<std::size_t>(page)] + tensor.offset);
    }
  }

  RestoredState restored;
  std::shared_ptr<const std::vector<float>> logits;
  if (const StateSection* section = object.find(kLogits)) {
    KRAIT_ASSIGN(auto numbers,
                 read_numbers<float>(object, *section, DType::kF32, static_cast<std::uint64_t>(vocabulary)));
    logits = std::make_shared<const std::vector<float>>(std::move(numbers));
  }
  if (const StateSection* section = object.find(kTokens)) {
    KRAIT_ASSIGN(restored.tokens, read_numbers<TokenId>(object, *section, DType::kI32,
                                                        static_cast<std::uint64_t>(description.position)));
    if (static_cast<std::int64_t>(restored.tokens.size()) != description.position ||
        extend_prefix({}, restored.tokens) != description.prefix) {
      return fail(ErrorCode::kCorrupt, "[state] its {} tokens are not those before position {} ({})",
                  restored.tokens.size(), description.position, object.origin());
    }
  }
  if (description.sampler) {
    SavedSampler& sampler = restored.sampler.emplace();
    sampler = {description.sampler->options, description.sampler->seed, description.sampler->random, {}};
    if (const StateSection* section = object.find(kCounts)) {
      KRAIT_ASSIGN(sampler.counts, read_numbers<std::int64_t>(object, *section, DType::kI64,
                                                              3 * static_cast<std::uint64_t>(vocabulary)));
    }
  }
  restored.state = State(std::move(slot), description.position, description.prefix, std::move(logits));
  return restored;
}

}  // namespace krait::runtime
