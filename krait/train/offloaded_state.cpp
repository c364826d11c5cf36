#include "krait/train/offloaded_state.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "krait/core/check.h"
#include "krait/nn/compute_threads.h"

namespace krait::train {
namespace {

template <class T>
T need(Result<T> result) {
  if (!result) throw UserError(result.error().message, "[memory] folder says where the file is");
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

std::span<float> floats(std::span<std::byte> bytes) {
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace

// A slot's numbers, as long as this lives.
class OffloadedState::Lease {
 public:
  enum class Use : std::uint8_t { kRead, kChange, kOverwrite };

  Lease() = default;
  Lease(OffloadFile& file, OffloadFile::Slot slot, Use use)
      : file_(&file),
        slot_(slot),
        dirty_(use != Use::kRead),
        bytes_(need(file.acquire(
            slot, use == Use::kOverwrite ? OffloadFile::Content::kOverwritten : OffloadFile::Content::kKept))) {}
  Lease(Lease&& other) noexcept
      : file_(std::exchange(other.file_, nullptr)), slot_(other.slot_), dirty_(other.dirty_), bytes_(other.bytes_) {}
  Lease& operator=(Lease&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(slot_, other.slot_);
    std::swap(dirty_, other.dirty_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  // A write that failed stays to be written, and whoever needs its memory is told.
  ~Lease() {
    if (file_ != nullptr) std::ignore = file_->release(slot_, dirty_);
  }

  std::span<std::byte> bytes() const { return bytes_; }
  std::span<float> numbers() const { return floats(bytes_); }

 private:
  OffloadFile* file_ = nullptr;
  OffloadFile::Slot slot_ = 0;
  bool dirty_ = false;
  std::span<std::byte> bytes_;
};

// Announces slots in the order of their use, some way ahead of it.
class OffloadedState::Ahead {
 public:
  static constexpr std::size_t kSlots = 8;

  Ahead(OffloadFile& file, Slots order) : file_(file), order_(std::move(order)) { reach(kSlots); }
  void used() { reach(++used_ + kSlots); }

 private:
  void reach(std::size_t end) {
    for (; announced_ < std::min(end, order_.size()); ++announced_) file_.prefetch(order_[announced_]);
  }
  OffloadFile& file_;
  Slots order_;
  std::size_t used_ = 0, announced_ = 0;
};

// One kind of numbers, as a checkpoint has them.
class OffloadedState::Provider final : public StateProvider {
 public:
  Provider(std::string name, OffloadedState& owner, Slots Entry::* kind)
      : name_(std::move(name)), owner_(owner), kind_(kind) {}

  std::string name() const override { return name_; }

  Result<ProvidedState> state() const override {
    ProvidedState state;
    for (Entry& entry : owner_.entries_) {
      PiecewiseTensor tensor{.name = entry.name,
                             .dtype = DType::kF32,
                             .shape = entry.shape,
                             .bytes = static_cast<std::uint64_t>(entry.numbers) * sizeof(float),
                             .visit_pieces = {}};
      tensor.visit_pieces = [this, &entry](PiecewiseTensor::Access access, const PiecewiseTensor::Visit& visit) {
        return visit_pieces(entry, access, visit);
      };
      state.piecewise.push_back(std::move(tensor));
    }
    return state;
  }

 private:
  Result<void> visit_pieces(Entry& entry, PiecewiseTensor::Access access, const PiecewiseTensor::Visit& visit) const {
    if (kind_ == nullptr && !entry.values) return visit(0, std::as_writable_bytes(values_of(entry.parameter)));
    const Slots slots = kind_ == nullptr ? Slots{*entry.values} : entry.*kind_;
    Ahead ahead(*owner_.file_, slots);
    std::uint64_t offset = 0;
    const bool writes = access == PiecewiseTensor::Access::kWrite;
    for (const OffloadFile::Slot slot : slots) {
      KRAIT_ASSIGN(
          const std::span<std::byte> bytes,
          owner_.file_->acquire(slot, writes ? OffloadFile::Content::kOverwritten : OffloadFile::Content::kKept));
      const auto visited = visit(offset, bytes);
      const auto released = owner_.file_->release(slot, writes);
      KRAIT_TRY(visited);
      KRAIT_TRY(released);
      ahead.used();
      offset += bytes.size();
    }
    return {};
  }

  std::string name_;
  OffloadedState& owner_;
  Slots Entry::* kind_;  // null: values
};

Result<std::shared_ptr<OffloadedState>> OffloadedState::create(const OffloadedStateOptions& options) {
  KRAIT_ASSIGN(auto file, OffloadFile::create(options.file));
  return std::shared_ptr<OffloadedState>(new OffloadedState(std::move(file), options));
}

std::int64_t OffloadedState::stretch_numbers(const Entry& entry, std::size_t stretch) const {
  return std::min(kStretch, entry.numbers - static_cast<std::int64_t>(stretch) * kStretch);
}

OffloadedState::Slots OffloadedState::reserve(const Entry& entry, const char* what) {
  Slots slots;
  const auto stretches = static_cast<std::size_t>((entry.numbers + kStretch - 1) / kStretch);
  for (std::size_t i = 0; i < stretches; ++i) {
    const auto bytes = static_cast<std::uint64_t>(stretch_numbers(entry, i)) * sizeof(float);
    slots.push_back(need(file_->reserve(fmt::format("{} of {}", what, entry.name), bytes)));
  }
  return slots;
}

// In the place of numbers that are away stands one that is none, which whoever reads it by mistake will notice.
void OffloadedState::send_away(Entry& entry) {
  const at::NoGradGuard guard;
  const at::Tensor none = at::full({}, std::numeric_limits<float>::quiet_NaN()).expand(entry.shape);
  entry.parameter.set_data(none);
}

void OffloadedState::adopt(const torch::nn::Module& module, const std::string& prefix) {
  const at::NoGradGuard guard;
  for (const auto& parameter : module.named_parameters()) {
    Entry& entry = entries_.emplace_back();
    entry.name = prefix + parameter.key();
    entry.parameter = parameter.value();
    entry.shape = entry.parameter.sizes().vec();
    entry.numbers = entry.parameter.numel();
    if (entry.parameter.scalar_type() != at::kFloat || !entry.parameter.is_contiguous()) {
      throw UserError(fmt::format("parameter {} is {}", entry.name, c10::toString(entry.parameter.scalar_type())),
                      "parameters are trained in float32");
    }
    entry.m = reserve(entry, "first moment");
    entry.v = reserve(entry, "second moment");
    if (options_.average) {
      entry.average = reserve(entry, "average");
      store(entry.parameter, entry.average);
    }
    if (!options_.parameters) continue;
    entry.gradient = reserve(entry, "gradient");
    const auto bytes = std::as_writable_bytes(values_of(entry.parameter));
    entry.values = need(file_->reserve(entry.name, bytes.size()));
    std::ranges::copy(bytes, Lease(*file_, *entry.values, Lease::Use::kOverwrite).bytes().begin());
    send_away(entry);
  }
}

void OffloadedState::attach(nn::LanguageModel& model) {
  parts_.resize(static_cast<std::size_t>(model.parts()));
  std::size_t i = 0;
  for (const auto& parameter : model.named_parameters()) {
    KRAIT_CHECK(i < entries_.size() && entries_[i].name == parameter.key(), "{} is not parameter {} of the model",
                parameter.key(), i);
    parts_[static_cast<std::size_t>(model.part_of(parameter.key()))].push_back(i++);
  }
  tied_ = model.dimensions().tied;
  if (tied_) parts_.back().push_back(parts_.front().front());
  if (!options_.parameters) return;
  if (tied_) {
    Entry& table = entries_[parts_.front().front()];
    table.first_part = reserve(table, "gradient of the head");
  }
  model.set_keeper(this);
}

void OffloadedState::fetch(std::int64_t part, std::int64_t next) {
  for (const std::int64_t announced : {part, next}) {
    if (announced < 0) continue;
    for (const std::size_t i : parts_[static_cast<std::size_t>(announced)]) file_->prefetch(*entries_[i].values);
  }
  const at::NoGradGuard guard;
  for (const std::size_t i : parts_[static_cast<std::size_t>(part)]) {
    Entry& entry = entries_[i];
    const std::span<float> values = floats(need(file_->acquire(*entry.values)));
    entry.parameter.set_data(at::from_blob(values.data(), entry.shape, at::kFloat));
  }
}

void OffloadedState::leave(std::int64_t part) {
  for (const std::size_t i : parts_[static_cast<std::size_t>(part)]) {
    send_away(entries_[i]);
    std::ignore = file_->release(*entries_[i].values, false);
  }
}

void OffloadedState::store(const at::Tensor& from, const Slots& stretches) {
  std::span<const float> rest = values_of(from);
  for (const OffloadFile::Slot slot : stretches) {
    const Lease lease(*file_, slot, Lease::Use::kOverwrite);
    std::ranges::copy(rest.first(lease.numbers().size()), lease.numbers().begin());
    rest = rest.subspan(lease.numbers().size());
  }
}

void OffloadedState::add_to(at::Tensor& sum, const Slots& stretches) {
  Ahead ahead(*file_, stretches);
  std::span<float> rest = values_of(sum);
  for (const OffloadFile::Slot slot : stretches) {
    const Lease lease(*file_, slot, Lease::Use::kRead);
    const std::span<const float> numbers = lease.numbers();
    for (std::size_t i = 0; i < numbers.size(); ++i) rest[i] += numbers[i];
    rest = rest.subspan(numbers.size());
    ahead.used();
  }
}

void OffloadedState::add_first_part(std::size_t parameter, at::Tensor gradient) {
  Entry& entry = entries_[parameter];
  store(gradient.contiguous(), entry.first_part);
  entry.has_first_part = true;
}

void OffloadedState::add(std::size_t parameter, at::Tensor gradient) {
  Entry& entry = entries_[parameter];
  gradient = gradient.contiguous();
  if (std::exchange(entry.has_first_part, false)) add_to(gradient, entry.first_part);
  if (entry.has_gradient) add_to(gradient, entry.gradient);
  entry.has_gradient = true;
  // The norm wants the whole sum; before the step's last batch this is for nothing, and costs little.
  entry.squares = kernels::sum_of_squares(nn::ComputePool(), values_of(gradient));
  store(gradient, entry.gradient);
}

double OffloadedState::sum_of_squares() {
  double squares = 0.0;
  for (const Entry& entry : entries_)
    squares += options_.parameters ? entry.squares : gradient_squares(entry.parameter);
  return squares;
}

OffloadedState::Slots OffloadedState::order_of_update() const {
  Slots order;
  for (const Entry& entry : entries_) {
    if (entry.values) order.push_back(*entry.values);
    for (std::size_t i = 0; i < entry.m.size(); ++i) {
      if (entry.has_gradient) order.push_back(entry.gradient[i]);
      order.push_back(entry.m[i]);
      order.push_back(entry.v[i]);
      if (options_.average) order.push_back(entry.average[i]);
    }
  }
  return order;
}

void OffloadedState::update(const Update& update) {
  Ahead ahead(*file_, order_of_update());
  const auto lease = [&](OffloadFile::Slot slot, Lease::Use use) {
    ahead.used();
    return Lease(*file_, slot, use);
  };
  const std::vector<float> zeros(static_cast<std::size_t>(kStretch));
  for (std::size_t p = 0; p < entries_.size(); ++p) {
    Entry& entry = entries_[p];
    const Lease held = entry.values ? lease(*entry.values, Lease::Use::kChange) : Lease();
    const std::span<float> values = entry.values ? held.numbers() : values_of(entry.parameter);
    at::Tensor tensor = options_.parameters ? at::Tensor() : entry.parameter.grad();
    if (tensor.defined()) tensor = tensor.contiguous();
    for (std::size_t i = 0; i < entry.m.size(); ++i) {
      const std::size_t first = i * static_cast<std::size_t>(kStretch);
      const auto count = static_cast<std::size_t>(stretch_numbers(entry, i));
      const Lease gradient = entry.has_gradient ? lease(entry.gradient[i], Lease::Use::kRead) : Lease();
      const Lease m = lease(entry.m[i], Lease::Use::kChange), v = lease(entry.v[i], Lease::Use::kChange);
      const Lease average = options_.average ? lease(entry.average[i], Lease::Use::kChange) : Lease();
      std::span<const float> numbers = std::span(zeros).first(count);
      if (tensor.defined()) numbers = values_of(tensor).subspan(first, count);
      if (entry.has_gradient) numbers = gradient.numbers();
      update(p, {.values = values.subspan(first, count),
                 .gradient = numbers,
                 .m = m.numbers(),
                 .v = v.numbers(),
                 .average = average.numbers()});
    }
  }
}

void OffloadedState::drop_gradients() {
  for (Entry& entry : entries_) {
    entry.has_gradient = entry.has_first_part = false;
    entry.squares = 0.0;
    entry.parameter.mutable_grad() = at::Tensor();
  }
}

void OffloadedState::swap_average() {
  if (!options_.average) return;
  for (Entry& entry : entries_) {
    const Lease held = entry.values ? Lease(*file_, *entry.values, Lease::Use::kChange) : Lease();
    std::span<float> rest = entry.values ? held.numbers() : values_of(entry.parameter);
    Ahead ahead(*file_, entry.average);
    for (const OffloadFile::Slot slot : entry.average) {
      const Lease average(*file_, slot, Lease::Use::kChange);
      std::ranges::swap_ranges(rest.first(average.numbers().size()), average.numbers());
      rest = rest.subspan(average.numbers().size());
      ahead.used();
    }
  }
}

std::vector<std::unique_ptr<StateProvider>> OffloadedState::providers(const std::string& prefix) {
  std::vector<std::unique_ptr<StateProvider>> result;
  result.push_back(std::make_unique<Provider>(prefix + "parameters", *this, nullptr));
  result.push_back(std::make_unique<Provider>(prefix + "adamw_first_moment", *this, &Entry::m));
  result.push_back(std::make_unique<Provider>(prefix + "adamw_second_moment", *this, &Entry::v));
  if (options_.average) result.push_back(std::make_unique<Provider>(prefix + "averages", *this, &Entry::average));
  return result;
}

}  // namespace krait::train
