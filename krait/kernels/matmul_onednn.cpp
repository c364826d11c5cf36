// The only file that knows oneDNN: dense products on the calling thread alone.
//
// The distribution's oneDNN runs its loops on OpenMP. Parallelism is our thread pool's business, so each call sets
// the calling thread's OpenMP team to one and restores it: dlsym finds the function in whichever OpenMP runtime came
// with oneDNN, which need not be the one of our compiler.
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <map>
#include <mutex>
#include <tuple>

#include "krait/core/check.h"
#include "krait/core/error.h"
#include "krait/kernels/matmul.h"

namespace krait::kernels {
namespace {

class SingleThreaded {
 public:
  SingleThreaded() {
    if (functions().set == nullptr || functions().get == nullptr) return;
    before_ = functions().get();
    if (before_ != 1) functions().set(1);
  }
  ~SingleThreaded() {
    if (before_ > 1) functions().set(before_);
  }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  struct Functions {
    void (*set)(int) = nullptr;
    int (*get)() = nullptr;
  };
  static const Functions& functions() {
    static const Functions found = {
        reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads")),
        reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads")),
    };
    return found;
  }
  int before_ = 1;
};

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// Compiled products by their shape. Compiling takes far longer than running, and a model has few shapes.
struct Bf16Product {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};
using Bf16Key =
    std::tuple<bool, bool, bool, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

const Bf16Product& bf16_product(const Bf16Key& key) {
  thread_local std::map<Bf16Key, Bf16Product> cache;
  const auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  if (cache.size() >= 256) cache.clear();
  const auto& [a_transposed, b_transposed, add, m, n, k, lda, ldb, ldc] = key;
  using dims = dnnl::memory::dims;
  using type = dnnl::memory::data_type;
  const dnnl::memory::desc a({m, k}, type::bf16, a_transposed ? dims{1, lda} : dims{lda, 1});
  const dnnl::memory::desc b({k, n}, type::bf16, b_transposed ? dims{1, ldb} : dims{ldb, 1});
  const dnnl::memory::desc c({m, n}, type::f32, dims{ldc, 1});
  dnnl::primitive_attr attributes;
  if (add) {
    dnnl::post_ops operations;
    operations.append_sum(1.0F);
    attributes.set_post_ops(operations);
  }
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, cpu());
  return cache.emplace(key, Bf16Product{description, dnnl::matmul(description)}).first->second;
}

void check(dnnl_status_t status, const char* what) {
  KRAIT_CHECK(status == dnnl_success, "oneDNN {}: status {}", what, static_cast<int>(status));
}

char letter(bool transposed) { return transposed ? 'T' : 'N'; }

}  // namespace

void gemm_f32(GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
              const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  const SingleThreaded single;
  check(dnnl_sgemm(letter(form.a_transposed), letter(form.b_transposed), m, n, k, 1.0F, a, lda, b, ldb,
                   form.add ? 1.0F : 0.0F, c, ldc),
        "sgemm");
}

bool gemm_bf16_available() {
  static const bool available = [] {
    try {
      bf16_product({false, true, false, 16, 16, 16, 16, 16, 16});
      return true;
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return available;
}

void gemm_bf16(GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k, const std::uint16_t* a, std::int64_t lda,
               const std::uint16_t* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (!gemm_bf16_available()) throw UserError("oneDNN has no bf16 product for this CPU", "use f32 weights");
  const SingleThreaded single;
  const Bf16Product& product = bf16_product({form.a_transposed, form.b_transposed, form.add, m, n, k, lda, ldb, ldc});
  thread_local dnnl::stream stream(cpu());
  // oneDNN takes mutable handles; it does not write to its sources.
  const dnnl::memory a_memory(product.description.src_desc(), cpu(), const_cast<std::uint16_t*>(a));
  const dnnl::memory b_memory(product.description.weights_desc(), cpu(), const_cast<std::uint16_t*>(b));
  const dnnl::memory c_memory(product.description.dst_desc(), cpu(), c);
  product.primitive.execute(stream, {{DNNL_ARG_SRC, a_memory}, {DNNL_ARG_WEIGHTS, b_memory}, {DNNL_ARG_DST, c_memory}});
  stream.wait();
}

void gemm_int8(GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k, const std::uint8_t* a, std::int64_t lda,
               const std::int8_t* b, std::int64_t ldb, std::int32_t* c, std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  const SingleThreaded single;
  const std::int32_t offset = 0;
  check(dnnl_gemm_u8s8s32(letter(form.a_transposed), letter(form.b_transposed), 'F', m, n, k, 1.0F, a, lda, 0, b, ldb,
                          0, form.add ? 1.0F : 0.0F, c, ldc, &offset),
        "gemm_u8s8s32");
}

}  // namespace krait::kernels
