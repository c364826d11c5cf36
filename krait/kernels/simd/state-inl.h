// Vectors of a stored state (krait/kernels/state_storage.h), widened when loaded and rounded when stored.
//
// StateF32, StateBF16 and StateI8 say how values stand. A kernel handles kCount vectors at once; with StateI8 they
// must be one whole block of 64, whose scale is chosen from their largest value.
#if defined(KRAIT_KERNELS_SIMD_STATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_STATE_INL_H_
#undef KRAIT_KERNELS_SIMD_STATE_INL_H_
#else
#define KRAIT_KERNELS_SIMD_STATE_INL_H_
#endif

#include "krait/kernels/simd/load_store-inl.h"
#include "krait/kernels/state_storage.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr std::size_t kBlockVectors = kStateBlock / kLanes;

// Decides which way values are rounded. To nearest, a decay of less than half a step would never move a value, and the
// error would pile up with every token; so a value goes up as often as it lies close to the number above. The chance
// comes from the values themselves: a multiplicative hash that runs down each column of the rows being stored, begun
// with the token's input. It depends on nothing else, neither threads nor batch nor the width of vectors.
template <std::size_t kCount>
struct StateNoise {
  using U32 = hn::RebindToUnsigned<F32>;
  hn::Vec<U32> hash[kCount];

  HWY_INLINE void start(const VecF32 (&input)[kCount]) {
    for (std::size_t j = 0; j < kCount; ++j) hash[j] = hn::BitCast(U32(), input[j]);
  }
  // 16 bits for value v of column vector j.
  HWY_INLINE hn::Vec<U32> draw(std::size_t j, VecF32 v) {
    hash[j] = hn::Mul(hn::Add(hash[j], hn::BitCast(U32(), v)), hn::Set(U32(), 0x9e3779b1U));
    return hn::ShiftRight<16>(hash[j]);
  }
};

struct StateF32 {
  static constexpr std::size_t kBytes = 4;
  static constexpr bool kScaled = false;
  // Vectors that a step works on side by side: enough sums in flight, and no more than 16 registers hold.
  static constexpr std::size_t kStepVectors = 4;
  template <std::size_t kCount>
  static HWY_INLINE void load(const std::byte* from, const std::byte* /*scale*/, VecF32 (&v)[kCount]) {
    for (std::size_t j = 0; j < kCount; ++j) {
      v[j] = hn::LoadU(F32(), reinterpret_cast<const float*>(from) + j * kLanes);
    }
  }
  template <std::size_t kCount>
  static HWY_INLINE void store(const VecF32 (&v)[kCount], std::byte* to, std::byte* /*scale*/,
                               StateNoise<kCount>& /*noise*/) {
    for (std::size_t j = 0; j < kCount; ++j) hn::StoreU(v[j], F32(), reinterpret_cast<float*>(to) + j * kLanes);
  }
};

struct StateBF16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kScaled = false;
  static constexpr std::size_t kStepVectors = 4;
  template <std::size_t kCount>
  static HWY_INLINE void load(const std::byte* from, const std::byte* /*scale*/, VecF32 (&v)[kCount]) {
    for (std::size_t j = 0; j < kCount; ++j) v[j] = WeightBF16::load(from + j * kLanes * kBytes);
  }
  template <std::size_t kCount>
  static HWY_INLINE void store(const VecF32 (&v)[kCount], std::byte* to, std::byte* /*scale*/,
                               StateNoise<kCount>& noise) {
    const hn::RebindToUnsigned<F32> d32;
    const hn::RebindToSigned<F32> di32;
    const hn::Rebind<std::uint16_t, F32> d16;
    for (std::size_t j = 0; j < kCount; ++j) {
      const auto bits = hn::BitCast(d32, v[j]);
      const auto rounded = hn::ShiftRight<16>(hn::Add(bits, noise.draw(j, v[j])));
      // A NaN's significand may carry over into the sign: a NaN stays one without rounding.
      const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d32, 0x40));
      const auto kept = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v[j])), quiet, rounded);
      hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, kept)), d16,
                 reinterpret_cast<std::uint16_t*>(to + j * kLanes * kBytes));
    }
  }
};

struct StateI8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kScaled = true;
  static constexpr std::size_t kStepVectors = kBlockVectors;
  static HWY_INLINE void load(const std::byte* from, const std::byte* scale, VecF32 (&v)[kBlockVectors]) {
    const hn::Rebind<std::int8_t, F32> d8;
    const hn::RebindToSigned<F32> d32;
    float step = 0.0F;
    std::memcpy(&step, scale, sizeof(step));
    const VecF32 steps = hn::Set(F32(), step);
    for (std::size_t j = 0; j < kBlockVectors; ++j) {
      const auto whole = hn::LoadU(d8, reinterpret_cast<const std::int8_t*>(from) + j * kLanes);
      v[j] = hn::Mul(steps, hn::ConvertTo(F32(), hn::PromoteTo(d32, whole)));
    }
  }
  static HWY_INLINE void store(const VecF32 (&v)[kBlockVectors], std::byte* to, std::byte* scale,
                               StateNoise<kBlockVectors>& noise) {
    const F32 d;
    const hn::Rebind<std::int8_t, F32> d8;
    const hn::RebindToUnsigned<F32> d32;
    VecF32 largest = hn::Abs(v[0]);
    for (std::size_t j = 1; j < kBlockVectors; ++j) largest = hn::Max(largest, hn::Abs(v[j]));
    const float most = hn::GetLane(hn::MaxOfLanes(d, largest));
    // Below 2^-100 the inverse would overflow.
    const bool zero = most < 0x1p-100F;
    const float step = zero ? 0.0F : most * (1.0F / 127.0F);
    const VecF32 inverse = hn::Set(d, zero ? 0.0F : 127.0F / most);
    std::memcpy(scale, &step, sizeof(step));
    for (std::size_t j = 0; j < kBlockVectors; ++j) {
      // The 16 bits as a number in [1, 2), then in [-0.5, 0.5).
      const auto random = hn::ShiftLeft<7>(noise.draw(j, v[j]));
      const VecF32 shift = hn::Sub(hn::BitCast(d, hn::Or(random, hn::Set(d32, 0x3f800000))), hn::Set(d, 1.5F));
      const auto whole = hn::NearestInt(hn::MulAdd(v[j], inverse, shift));
      hn::StoreU(hn::DemoteTo(d8, whole), d8, reinterpret_cast<std::int8_t*>(to) + j * kLanes);
    }
  }
};

// The first `count` values of kCount vectors; the others are zero and are not stored.
template <class State, std::size_t kCount>
HWY_INLINE void load_state_part(const std::byte* from, const std::byte* scale, std::size_t count, VecF32 (&v)[kCount]) {
  alignas(64) std::byte values[kCount * kLanes * State::kBytes] = {};
  std::memcpy(values, from, count * State::kBytes);
  State::load(values, scale, v);
}

template <class State, std::size_t kCount>
HWY_INLINE void store_state_part(const VecF32 (&v)[kCount], std::byte* to, std::byte* scale, std::size_t count,
                                 StateNoise<kCount>& noise) {
  alignas(64) std::byte values[kCount * kLanes * State::kBytes];
  State::store(v, values, scale, noise);
  std::memcpy(to, values, count * State::kBytes);
}

// Calls body(StateF32()), body(StateBF16()) or body(StateI8()).
template <class Body>
HWY_INLINE void with_state_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kBF16: body(StateBF16()); break;
    case DType::kI8: body(StateI8()); break;
    default: body(StateF32()); break;
  }
}

// Rows of a stored state to f32 rows of `stride` floats (whole vectors, zero past the width) and back. `scales` holds
// state_blocks(width) floats a row.
template <class State>
HWY_INLINE void widen_state(const std::byte* from, const std::byte* scales, std::int64_t rows, std::int64_t width,
                            float* to, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t at = 0; at < width; at += kStateBlock) {
      const std::byte* values = from + (r * width + at) * static_cast<std::int64_t>(State::kBytes);
      const std::byte* scale = State::kScaled ? scales + (r * state_blocks(width) + at / kStateBlock) * 4 : nullptr;
      VecF32 v[kBlockVectors];
      if (at + kStateBlock <= width) {
        State::load(values, scale, v);
      } else {
        load_state_part<State>(values, scale, static_cast<std::size_t>(width - at), v);
      }
      for (std::size_t j = 0; j < kBlockVectors; ++j) {
        const std::int64_t column = at + static_cast<std::int64_t>(j * kLanes);
        if (column < stride) hn::StoreU(v[j], F32(), to + r * stride + column);
      }
    }
  }
}

template <class State>
HWY_INLINE void narrow_state(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t width,
                             std::byte* to, std::byte* scales) {
  for (std::int64_t at = 0; at < width; at += kStateBlock) {
    StateNoise<kBlockVectors> noise;
    for (std::int64_t r = 0; r < rows; ++r) {
      std::byte* values = to + (r * width + at) * static_cast<std::int64_t>(State::kBytes);
      std::byte* scale = State::kScaled ? scales + (r * state_blocks(width) + at / kStateBlock) * 4 : nullptr;
      VecF32 v[kBlockVectors];
      for (std::size_t j = 0; j < kBlockVectors; ++j) {
        const std::int64_t column = at + static_cast<std::int64_t>(j * kLanes);
        v[j] = column < stride ? hn::LoadU(F32(), from + r * stride + column) : hn::Zero(F32());
      }
      if (r == 0) noise.start(v);
      if (at + kStateBlock <= width) {
        State::store(v, values, scale, noise);
      } else {
        store_state_part<State>(v, values, scale, static_cast<std::size_t>(width - at), noise);
      }
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
