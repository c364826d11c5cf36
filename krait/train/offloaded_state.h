// The state of a training run in a file (offload_file.h) instead of in memory: moments and averages of AdamW, and where
// it is wanted parameters and gradients too (Rajbhandari et al. 2021, arXiv 2104.07857; what it costs in memory follows
// MemAscend, arXiv 2505.23254). Parameters come part by part as the model is read; moments and gradients a few
// megabytes at a time, since AdamW goes number by number. A gradient is in memory from the layer's backward until it is
// added up, squared for the norm and written behind.
#pragma once

#include <optional>
#include <vector>

#include "krait/nn/language_model.h"
#include "krait/train/layered_gradients.h"
#include "krait/train/offload_file.h"
#include "krait/train/optimiser_state.h"

namespace krait::train {

struct OffloadedStateOptions {
  OffloadOptions file;
  bool parameters = false;  // and gradients
  bool average = false;
};

// What goes wrong with the file is a UserError: what was to be computed has no numbers to go on with.
class OffloadedState final : public OptimiserState, public nn::ParameterKeeper, public GradientSink {
 public:
  // Numbers of a stretch of moments, 4 MiB of each kind.
  static constexpr std::int64_t kStretch = std::int64_t{1} << 20;

  static Result<std::shared_ptr<OffloadedState>> create(const OffloadedStateOptions& options);

  // Takes over the parameters of a part of a model that is being made (LanguageModel::MadePart).
  void adopt(const torch::nn::Module& module, const std::string& prefix);
  // When all parts are there. The model must outlive this.
  void attach(nn::LanguageModel& model);

  void fetch(std::int64_t part, std::int64_t next) override;
  void leave(std::int64_t part) override;

  void add(std::size_t parameter, at::Tensor gradient) override;
  void add_first_part(std::size_t parameter, at::Tensor gradient) override;

  double sum_of_squares() override;
  void update(const Update& update) override;
  void drop_gradients() override;
  void swap_average() override;
  std::vector<std::unique_ptr<StateProvider>> providers(const std::string& prefix) override;

  OffloadFile& file() { return *file_; }

 private:
  using Slots = std::vector<OffloadFile::Slot>;
  struct Entry {
    std::string name;
    at::Tensor parameter;  // its numbers are away unless its part is in use
    std::vector<std::int64_t> shape;
    std::int64_t numbers = 0;
    std::optional<OffloadFile::Slot> values;
    Slots gradient, first_part, m, v, average;
    bool has_gradient = false, has_first_part = false;
    double squares = 0.0;
  };
  class Lease;
  class Ahead;
  class Provider;

  OffloadedState(std::unique_ptr<OffloadFile> file, const OffloadedStateOptions& options)
      : file_(std::move(file)), options_(options) {}
  Slots reserve(const Entry& entry, const char* what);
  std::int64_t stretch_numbers(const Entry& entry, std::size_t stretch) const;
  void send_away(Entry& entry);
  void add_to(at::Tensor& sum, const Slots& stretches);
  void store(const at::Tensor& from, const Slots& stretches);
  Slots order_of_update() const;

  std::unique_ptr<OffloadFile> file_;
  OffloadedStateOptions options_;
  std::vector<Entry> entries_;
  std::vector<std::vector<std::size_t>> parts_;  // which parameters each reads
  bool tied_ = false;
};

}  // namespace krait::train
