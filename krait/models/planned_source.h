// A checkpoint that is not there, or not yet: a configuration, and the tensors that its model would ask for. A loader
// that is given one as its plan tells it every name and shape; what comes out has no bytes. With it `krait inspect`
// describes a folder whose weights were not downloaded, and synthetic models need no list of tensors of their own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "krait/formats/weight_source.h"

namespace krait::models {

class PlannedSource final : public formats::WeightSource {
 public:
  // `names`: of the tensors, where an index has them; optional tensors are planned only if they are among them. Without
  // names a plan has no optional tensors.
  PlannedSource(formats::Config config, DType dtype, const std::vector<std::string>& names = {});

  std::string_view format() const override { return "safetensors"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  // kNotFound: there are no bytes.
  Result<TensorView> view(std::string_view name) const override;
  std::string origin() const override { return config_.origin(); }

  // Writes down a tensor, or the shape of one whose name is known.
  void expect(const std::string& name, const Shape& shape);

 private:
  formats::Config config_;
  DType dtype_;
  std::vector<formats::TensorInfo> tensors_;  // sorted by name; without a shape until it is expected
};

// The plan of a whole model, made by its own loader. Fails as loading would.
Result<std::shared_ptr<PlannedSource>> plan_checkpoint(formats::Config config, DType dtype,
                                                       const std::vector<std::string>& names = {});

}  // namespace krait::models
