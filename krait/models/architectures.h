// One loader for each architecture; registry.cpp says which checkpoint is whose. A loader leaves its errors in the
// WeightLoader; what it returns then is not to be used.
#pragma once

#include <memory>

#include "krait/models/model.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

std::unique_ptr<Model> load_mamba(WeightLoader& loader);   // mamba, falcon_mamba and hax_mamba
std::unique_ptr<Model> load_mamba2(WeightLoader& loader);  // mamba2 and hax_mamba2
std::unique_ptr<Model> load_mamba3(WeightLoader& loader);
std::unique_ptr<Model> load_rwkv7(WeightLoader& loader);
std::unique_ptr<Model> load_jamba(WeightLoader& loader);
std::unique_ptr<Model> load_nemotron_h(WeightLoader& loader);  // dense and with experts
std::unique_ptr<Model> load_bamba(WeightLoader& loader);
std::unique_ptr<Model> load_granite_hybrid(WeightLoader& loader);
std::unique_ptr<Model> load_falcon_h1(WeightLoader& loader);
std::unique_ptr<Model> load_lfm2(WeightLoader& loader);
std::unique_ptr<Model> load_zamba2(WeightLoader& loader);
std::unique_ptr<Model> load_samba(WeightLoader& loader);
std::unique_ptr<Model> load_phi4flash(WeightLoader& loader);   // SambaY
std::unique_ptr<Model> load_qwen3_next(WeightLoader& loader);  // and Qwen3.5
std::unique_ptr<Model> load_hybrid_qwen3(WeightLoader& loader);

}  // namespace krait::models
