// What a checkpoint is made of. Each part of a training run tells its state by a provider of its own (state providers:
// Maurya et al. 2026, arXiv 2601.16956): parameters, moments of the optimiser, averaged weights as views of tensors
// that live on; random generators, the cursor in the data, counters as small blobs that are serialised for the
// occasion. In the file a tensor is called PROVIDER/NAME; a blob is a tensor of bytes.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/named_tensor.h"

namespace krait::train {

struct StateBlob {
  std::string name;
  std::vector<std::byte> bytes;
};

// A tensor that is nowhere as a whole, or not in memory: its bytes are had a piece at a time.
struct PiecewiseTensor {
  enum class Access : std::uint8_t { kRead, kWrite };
  using Visit = std::function<Result<void>(std::uint64_t offset, std::span<std::byte> piece)>;

  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t bytes = 0;
  // Visits the pieces in their order, until one fails. kWrite: they keep what the visit leaves in them.
  std::function<Result<void>(Access access, const Visit& visit)> visit_pieces;
};

struct ProvidedState {
  std::vector<formats::NamedTensor> tensors;  // whose bytes stay as they are until the snapshot is taken
  std::vector<StateBlob> blobs;
  std::vector<PiecewiseTensor> piecewise = {};  // only for CheckpointWriter::save_in_pieces()
};

class StateProvider {
 public:
  virtual ~StateProvider() = default;
  // "parameters", "adamw_first_moment", "data_cursor": not empty, without '/', another one for each provider.
  virtual std::string name() const = 0;
  // Called at a step boundary, by the thread that takes the snapshot.
  virtual Result<ProvidedState> state() const = 0;
};

// Tensors that stay where they are for the whole run.
class TensorStateProvider final : public StateProvider {
 public:
  TensorStateProvider(std::string name, std::vector<formats::NamedTensor> tensors)
      : name_(std::move(name)), tensors_(std::move(tensors)) {}
  std::string name() const override { return name_; }
  Result<ProvidedState> state() const override { return ProvidedState{tensors_, {}}; }

 private:
  std::string name_;
  std::vector<formats::NamedTensor> tensors_;
};

// Whatever `serialise` says at the time, under the blob's name "state".
class BlobStateProvider final : public StateProvider {
 public:
  using Serialise = std::function<std::vector<std::byte>()>;
  static constexpr const char* kBlob = "state";

  BlobStateProvider(std::string name, Serialise serialise) : name_(std::move(name)), serialise_(std::move(serialise)) {}
  std::string name() const override { return name_; }
  Result<ProvidedState> state() const override { return ProvidedState{{}, {{kBlob, serialise_()}}}; }

 private:
  std::string name_;
  Serialise serialise_;
};

// The name of a tensor or blob in the checkpoint.
inline std::string state_name(const std::string& provider, const std::string& name) { return provider + "/" + name; }

}  // namespace krait::train
