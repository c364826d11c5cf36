// What GGUF and transformers call the tensors and keys of each architecture, as tables that a translation reads in
// either direction: gguf_tables_pure.cpp has the models without attention, gguf_tables_hybrid.cpp the others.
#pragma once

#include "krait/models/gguf_translation.h"
#include "krait/models/weight_loader.h"

namespace krait::models::gguf {

// Each reads sizes from the source with `loader`, which keeps its errors.
void translate_mamba(GgufTranslation& g, WeightLoader& loader);  // and FalconMamba
void translate_mamba2(GgufTranslation& g, WeightLoader& loader);
void translate_rwkv7(GgufTranslation& g, WeightLoader& loader);
void translate_jamba(GgufTranslation& g, WeightLoader& loader);
void translate_nemotron(GgufTranslation& g, WeightLoader& loader);
void translate_bamba(GgufTranslation& g, WeightLoader& loader);
void translate_granite(GgufTranslation& g, WeightLoader& loader);
void translate_falcon_h1(GgufTranslation& g, WeightLoader& loader);
void translate_lfm2(GgufTranslation& g, WeightLoader& loader);
void translate_qwen(GgufTranslation& g, WeightLoader& loader);

}  // namespace krait::models::gguf
