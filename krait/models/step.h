// One batched step: segments of several sequences run through a model together. A prefill chunk, a single-token
// decode and (later) a token tree are all segments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/attention.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/rotary.h"
#include "krait/kernels/rows.h"
#include "krait/models/operator_profile.h"

namespace krait::models {

struct Segment {
  // The bundle of the sequence, laid out by the model's StateLayout, aligned to 64 bytes. Read as the state before
  // tokens[0], left as the state after the last token. No two segments of a step share one.
  std::byte* state = nullptr;
  std::span<const std::int32_t> tokens;  // at least one, each in [0, V)
  std::int64_t position = 0;             // tokens already in the state
  // Of a layout with pages: one for every 64 of the position + tokens.size() tokens, in order. Those that hold new
  // tokens belong to this sequence alone.
  std::byte* const* pages = nullptr;
  // What the model says after tokens[wanted_from], … up to the last is wanted; tokens.size() means of none.
  std::int64_t wanted_from = 0;
};

// Scratch memory for activations, handed out in order and taken back as a whole. Kept between steps, so that a
// steady stream of steps does not allocate.
class Workspace {
 public:
  // Uninitialised floats, aligned to 64 bytes, valid until reset().
  float* take(std::int64_t count);
  kernels::RowsOut rows(std::int64_t row_count, std::int64_t columns) {
    return {take(row_count * columns), row_count, columns};
  }
  void reset();

  // Everything taken since the mark is handed back when it goes out of scope: for scratch within one layer.
  class Mark {
   public:
    explicit Mark(Workspace& workspace) : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    ~Mark() {
      workspace_.block_ = block_;
      workspace_.used_ = used_;
    }
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;

   private:
    Workspace& workspace_;
    std::size_t block_;
    std::size_t used_;
  };

 private:
  std::vector<AlignedBuffer> blocks_;
  std::size_t block_ = 0;  // the block being handed out
  std::size_t used_ = 0;   // bytes of it
};

// What a forward pass works with: the flattened rows of all segments, threads and scratch.
class Step {
 public:
  // With a profile, models say with lap() what each operator cost.
  Step(ThreadPool& pool, Workspace& workspace, std::span<const Segment> segments, OperatorProfile* profile = nullptr);

  ThreadPool& pool() const { return pool_; }
  Workspace& workspace() const { return workspace_; }
  std::span<const Segment> segments() const { return segments_; }
  std::int64_t row_count() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::span<const std::int32_t> tokens() const { return tokens_; }        // [M]
  std::span<const std::int64_t> positions() const { return positions_; }  // [M], of each row in its sequence
  // Rows whose output is wanted, in order.
  std::span<const std::int64_t> wanted_rows() const { return wanted_rows_; }

  kernels::RowsOut rows(std::int64_t columns) const { return workspace_.rows(row_count(), columns); }

  // Ends an operator of the profile, where there is one.
  void lap(std::string_view name, std::uint64_t bytes, std::uint64_t operations = 0, bool integers = false) const {
    if (profile_ != nullptr) profile_->lap(name, bytes, operations, integers);
  }
  // A product with x [rows, K].
  void lap(std::string_view name, const kernels::WeightMatrix& weight, std::int64_t rows) const;
  void lap(std::string_view name, const kernels::WeightMatrix& weight) const { lap(name, weight, row_count()); }
  // Several products with the same number of rows, as one operator.
  void lap(std::string_view name, std::initializer_list<const kernels::WeightMatrix*> weights, std::int64_t rows) const;
  // Elementwise work: `columns` floats read and written a row.
  void lap_rows(std::string_view name, std::int64_t columns) const;
  // A scan: the states of all segments read and written, `columns` floats a row in and out, `operations` a row.
  void lap_scan(std::string_view name, std::uint64_t state_bytes, std::int64_t columns, std::int64_t operations) const;

  // Attention: the keys and values that each row's sequence has in view read once a step, and two products a row.
  void lap_attention(std::string_view name, const kernels::Attention& attention) const;

  // For the kernels: every segment's rows with its state tensor at `offset` bytes of the bundle. Valid until the
  // next call.
  std::span<const kernels::SequenceRows> sequences(std::uint64_t offset);
  // The same for keys and values, at `offset` of every page, or in a ring at `offset` of the bundle.
  std::span<const kernels::KvSequence> paged_sequences(std::uint64_t offset);
  std::span<const kernels::KvSequence> ring_sequences(std::uint64_t offset, std::int64_t pages);

  // The same as paged_sequences() for the rows that are wanted, counted by themselves: row i of the kernels'
  // activations is wanted_rows()[i]. Nothing may be stored through them.
  std::span<const kernels::KvSequence> wanted_sequences(std::uint64_t offset);

  // The rotary table [M, width] of all rows' positions, computed once for all layers that ask with equal arguments.
  kernels::RowsIn rotary_table(const kernels::Rotary& rotary);

 private:
  ThreadPool& pool_;
  Workspace& workspace_;
  std::span<const Segment> segments_;
  OperatorProfile* profile_;
  std::vector<std::int32_t> tokens_;
  std::vector<std::int64_t> wanted_rows_;
  std::vector<std::int64_t> positions_;
  std::vector<kernels::SequenceRows> sequences_;
  std::vector<kernels::KvSequence> kv_sequences_, wanted_sequences_;
  struct RotaryTable {
    kernels::Rotary rotary;
    AlignedBuffer values;
  };
  std::vector<RotaryTable> rotary_tables_;
};

// Copies of the rows that are wanted of `from` [M, columns], in order: scratch of the step.
kernels::RowsOut wanted_rows(Step& step, kernels::RowsIn from);

}  // namespace krait::models
