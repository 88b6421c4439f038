// onnx knows its own operators only. Those of onnxruntime that exporters and
// quantisers emit are declared here, so that the checker, type inference and
// the dialect's verifier treat them like any other. Names, order and types are
// onnxruntime's; what they mean is in lib/Frontend/ONNX/ConvertContrib*.cpp.
#include "ContribSchemas.h"

#include "onnx/defs/schema.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <mutex>

using namespace dlc;
using llvm::StringRef;

namespace {
/// Operands and results are `name:type`, `?` for optional, `*` for the variadic
/// last one. A type is a variable of one kind: F floats, I i32, L i64, J both,
/// B bytes (i8, u8), U u8, N integers that are quantised to, Z bool, A all of
/// these but bool. Attributes are `name:type`: i, f, s, lists is, fs and ss;
/// `!` required.
struct Row {
  const char *domain, *name, *inputs, *outputs, *attributes;
};
} // namespace

static constexpr const char *kMicrosoft = "com.microsoft";

static const Row rows[] = {
    {"", "SimplifiedLayerNormalization", "X:F scale:F1", "Y:F1 inv_std_var:F2?",
     "axis:i epsilon:f stash_type:i"},
    {kMicrosoft, "SkipLayerNormalization",
     "input:F skip:F gamma:F beta:F? bias:F?",
     "output:F mean:F2? inv_std_var:F2? input_skip_bias_sum:F?", "epsilon:f"},
    {kMicrosoft, "SkipSimplifiedLayerNormalization",
     "input:F skip:F gamma:F bias:F?",
     "output:F mean:F2? inv_std_var:F2? input_skip_bias_sum:F?", "epsilon:f"},
    {kMicrosoft, "EmbedLayerNormalization",
     "input_ids:I segment_ids:I? word_embedding:F position_embedding:F "
     "segment_embedding:F? gamma:F beta:F mask:I? position_ids:I?",
     "output:F mask_index:I? embedding_sum:F?", "epsilon:f mask_index_type:i"},
    {kMicrosoft, "Gelu", "X:F", "Y:F", ""},
    {kMicrosoft, "FastGelu", "X:F bias:F?", "Y:F", ""},
    {kMicrosoft, "BiasGelu", "A:F B:F", "C:F", ""},
    {kMicrosoft, "QuickGelu", "X:F", "Y:F", "alpha:f"},
    {kMicrosoft, "BiasSplitGelu", "X:F bias:F", "Y:F", ""},
    {kMicrosoft, "BiasAdd", "X:F bias:F skip:F", "Y:F", ""},
    {kMicrosoft, "FusedMatMul", "A:F B:F", "Y:F",
     "alpha:f transA:i transB:i transBatchA:i transBatchB:i"},
    {kMicrosoft, "FusedGemm", "A:F B:F C:F?", "Y:F",
     "alpha:f beta:f transA:i transB:i activation:s activation_alpha:f "
     "activation_beta:f activation_gamma:f"},
    {kMicrosoft, "FusedConv", "X:F W:F B:F? Z:F?", "Y:F",
     "auto_pad:s dilations:is group:i kernel_shape:is pads:is strides:is "
     "activation:s activation_params:fs"},
    {kMicrosoft, "RotaryEmbedding",
     "input:F position_ids:L cos_cache:F sin_cache:F", "output:F",
     "interleaved:i is_packed_batching:i num_heads:i rotary_embedding_dim:i "
     "scale:f"},
    {kMicrosoft, "MultiHeadAttention",
     "query:F key:F? value:F? bias:F? key_padding_mask:I? attention_bias:F? "
     "past_key:F? past_value:F? past_sequence_length:I? cache_indirection:I?",
     "output:F present_key:F? present_value:F? qk:F?",
     "num_heads:i! mask_filter_value:f scale:f unidirectional:i"},
    {kMicrosoft, "GroupQueryAttention",
     "query:F key:F? value:F? past_key:C? past_value:C? seqlens_k:I "
     "total_sequence_length:I cos_cache:F? sin_cache:F? position_ids:L? "
     "attention_bias:F? head_sink:F? k_scale:F2? v_scale:F2? q_norm_weight:F? "
     "k_norm_weight:F?",
     "output:F present_key:C? present_value:C? output_qk:F?",
     "num_heads:i! kv_num_heads:i! scale:f softcap:f do_rotary:i "
     "rotary_interleaved:i local_window_size:i smooth_softmax:i qk_output:i "
     "k_quant_type:s v_quant_type:s kv_cache_bit_width:i causal:i "
     "sliding_window_cache:i qk_norm_epsilon:f"},
    {kMicrosoft, "PagedAttention",
     "query:F key:F? value:F? key_cache:F2 value_cache:F2? "
     "cumulative_sequence_length:I past_seqlens:I block_table:I cos_cache:F? "
     "sin_cache:F? slot_mapping:I? head_sink:F? q_norm_weight:F? "
     "k_norm_weight:F? k_scale:F3? v_scale:F3? attention_metadata:I?",
     "output:F key_cache_out:F2? value_cache_out:F2?",
     "num_heads:i! kv_num_heads:i! scale:f softcap:f do_rotary:i "
     "rotary_interleaved:i rotary_offset:i local_window_size:i is_causal:i "
     "v_head_size:i kv_cache_layout:s k_quant_type:s v_quant_type:s "
     "k_cache_dtype:s v_cache_dtype:s qk_norm_epsilon:f"},
    {kMicrosoft, "Attention",
     "input:F weights:F bias:F? mask_index:I? past:F? attention_bias:F? "
     "past_sequence_length:I?",
     "output:F present:F?",
     "num_heads:i! unidirectional:i qkv_hidden_sizes:is mask_filter_value:f "
     "scale:f do_rotary:i rotary_embedding_dim:i past_present_share_buffer:i"},
    {kMicrosoft, "MatMulNBits",
     "A:F B:U scales:F zero_points:A? g_idx:I? bias:F?", "Y:F",
     "K:i! N:i! bits:i block_size:i! accuracy_level:i weight_prepacked:i"},
    {kMicrosoft, "GatherBlockQuantized",
     "data:U indices:J scales:F zero_points:U?", "output:F",
     "bits:i block_size:i quantize_axis:i gather_axis:i"},
    {kMicrosoft, "QuantizeLinear", "x:F y_scale:F y_zero_point:N?", "y:N",
     "axis:i"},
    {kMicrosoft, "DequantizeLinear", "x:N x_scale:F x_zero_point:N?", "y:F",
     "axis:i"},
    {kMicrosoft, "QLinearAdd",
     "A:B A_scale:F A_zero_point:B? B:B B_scale:F B_zero_point:B? C_scale:F "
     "C_zero_point:B?",
     "C:B", ""},
    {kMicrosoft, "QLinearMul",
     "A:B A_scale:F A_zero_point:B? B:B B_scale:F B_zero_point:B? C_scale:F "
     "C_zero_point:B?",
     "C:B", ""},
    {kMicrosoft, "QLinearSigmoid",
     "X:B X_scale:F X_zero_point:B? Y_scale:F Y_zero_point:B?", "Y:B", ""},
    {kMicrosoft, "QLinearLeakyRelu",
     "X:B X_scale:F X_zero_point:B? Y_scale:F Y_zero_point:B?", "Y:B",
     "alpha:f"},
    {kMicrosoft, "QLinearSoftmax",
     "X:B X_scale:F x_zero_point:B? y_scale:F y_zero_point:B", "Y:B",
     "axis:i opset:i!"},
    {kMicrosoft, "QLinearGlobalAveragePool",
     "X:B x_scale:F x_zero_point:B y_scale:F y_zero_point:B", "Y:B",
     "channels_last:i"},
    {kMicrosoft, "QLinearAveragePool",
     "X:B x_scale:F x_zero_point:B? y_scale:F y_zero_point:B?", "Y:B",
     "auto_pad:s ceil_mode:i channels_last:i count_include_pad:i "
     "kernel_shape:is! pads:is strides:is"},
    {kMicrosoft, "QLinearWhere",
     "condition:Z X:B x_scale:F x_zero_point:B Y:B y_scale:F y_zero_point:B "
     "z_scale:F z_zero_point:B",
     "Z:B", ""},
    {kMicrosoft, "QAttention",
     "input:B weight:B1 bias:F input_scale:F weight_scale:F mask_index:I? "
     "input_zero_point:B? weight_zero_point:B1? past:F?",
     "output:F present:F?",
     "num_heads:i! unidirectional:i mask_filter_value:f scale:f do_rotary:i "
     "past_present_share_buffer:i"},
    // Written into the default domain by onnxruntime's tools for opsets that
    // had no such operator yet.
    {kMicrosoft, "LayerNormalization", "X:F Scale:F B:F?",
     "Y:F Mean:F2? InvStdDev:F2?", "axis:i epsilon:f stash_type:i"},
    {kMicrosoft, "QLinearConcat", "Y_scale:F Y_zero_point:B inputs:A*", "Y:B",
     "axis:i!"},
    {kMicrosoft, "QGemm",
     "A:B a_scale:F a_zero_point:B B:B1 b_scale:F b_zero_point:B1 C:I? "
     "y_scale:F? y_zero_point:B2?",
     "Y:A", "alpha:f transA:i transB:i"},
    {kMicrosoft, "DynamicQuantizeMatMul",
     "A:F B:B b_scale:F b_zero_point:B? bias:F?", "Y:F", ""},
    {kMicrosoft, "DynamicQuantizeLSTM",
     "X:F W:B R:B1 B:F? sequence_lens:I? initial_h:F? initial_c:F? P:F? "
     "W_scale:F W_zero_point:B R_scale:F R_zero_point:B1",
     "Y:F? Y_h:F? Y_c:F?",
     "activation_alpha:fs activation_beta:fs activations:ss clip:f direction:s "
     "hidden_size:i input_forget:i"},
    {kMicrosoft, "MatMulIntegerToFloat",
     "A:B B:B1 a_scale:F b_scale:F a_zero_point:B? b_zero_point:B1? bias:F?",
     "Y:F", ""},
};

static std::vector<std::string> typesOf(char kind) {
  static const std::vector<std::string> floats{
      "tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)"};
  std::vector<std::string> all;
  switch (kind) {
  case 'F':
    return floats;
  case 'I':
    return {"tensor(int32)"};
  case 'L':
    return {"tensor(int64)"};
  case 'J':
    return {"tensor(int32)", "tensor(int64)"};
  case 'B':
    return {"tensor(int8)", "tensor(uint8)"};
  case 'C': // a cache
    all = typesOf('B');
    all.insert(all.end(), floats.begin(), floats.end());
    return all;
  case 'U':
    return {"tensor(uint8)"};
  case 'Z':
    return {"tensor(bool)"};
  case 'N':
    return {"tensor(int8)",  "tensor(uint8)", "tensor(int16)", "tensor(uint16)",
            "tensor(int32)", "tensor(int4)",  "tensor(uint4)"};
  default:
    for (char each : {'F', 'J', 'N'})
      for (const std::string &type : typesOf(each))
        if (llvm::find(all, type) == all.end())
          all.push_back(type);
    return all;
  }
}

/// A result has the type of the operand that shares its variable; float for a
/// float variable of no operand, as statistics have. Shapes are found out when
/// the operator is lowered.
static void inferTypes(onnx::InferenceContext &context,
                       const std::vector<std::string> &inputs,
                       const std::vector<std::string> &outputs) {
  for (size_t o = 0; o < context.getNumOutputs() && o < outputs.size(); ++o) {
    int32_t type = outputs[o][0] == 'F'   ? onnx::TensorProto::FLOAT
                   : outputs[o][0] == 'I' ? onnx::TensorProto::INT32
                                          : onnx::TensorProto::UINT8;
    bool isKnown = outputs[o][0] != 'B' && outputs[o][0] != 'A';
    if (const onnx::TypeProto *first = context.getInputType(0);
        first && outputs[o][0] == 'C')
      type = first->tensor_type().elem_type();
    for (size_t i = 0; i < context.getNumInputs(); ++i)
      if (const onnx::TypeProto *input = context.getInputType(i);
          input && inputs[std::min(i, inputs.size() - 1)] == outputs[o]) {
        type = input->tensor_type().elem_type();
        isKnown = true;
        break;
      }
    // QGemm: bytes when there is a zero point for them, else floats.
    if (outputs[o] == "A") {
      const onnx::TypeProto *zero =
          context.getNumInputs() > 8 ? context.getInputType(8) : nullptr;
      type = zero ? zero->tensor_type().elem_type()
                  : static_cast<int32_t>(onnx::TensorProto::FLOAT);
      isKnown = true;
    }
    if (isKnown)
      context.getOutputType(o)->mutable_tensor_type()->set_elem_type(type);
  }
}

static onnx::OpSchema makeSchema(const Row &row) {
  onnx::OpSchema schema;
  schema.SetName(row.name)
      .SetDomain(row.domain)
      .SinceVersion(1)
      .SetLocation(__FILE__, __LINE__);
  std::vector<std::string> inputs, outputs, variables;
  auto addFormals = [&](const char *text, std::vector<std::string> &types,
                        bool isInput) {
    llvm::SmallVector<StringRef> parts;
    StringRef(text).split(parts, ' ', -1, /*KeepEmpty=*/false);
    for (StringRef part : parts) {
      auto [name, type] = part.split(':');
      auto option = type.consume_back("?")   ? onnx::OpSchema::Optional
                    : type.consume_back("*") ? onnx::OpSchema::Variadic
                                             : onnx::OpSchema::Single;
      int index = static_cast<int>(types.size());
      types.push_back(type.str());
      if (llvm::find(variables, type) == variables.end())
        variables.push_back(type.str());
      bool homogeneous = option != onnx::OpSchema::Variadic;
      if (isInput)
        schema.Input(index, name.str(), "", type.str(), option, homogeneous);
      else
        schema.Output(index, name.str(), "", type.str(), option, homogeneous);
    }
  };
  addFormals(row.inputs, inputs, true);
  addFormals(row.outputs, outputs, false);
  for (const std::string &variable : variables)
    schema.TypeConstraint(variable, typesOf(variable[0]), "");
  llvm::SmallVector<StringRef> parts;
  StringRef(row.attributes).split(parts, ' ', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    auto [name, type] = part.split(':');
    bool required = type.consume_back("!");
    auto kind = type == "i"    ? onnx::AttributeProto::INT
                : type == "f"  ? onnx::AttributeProto::FLOAT
                : type == "s"  ? onnx::AttributeProto::STRING
                : type == "is" ? onnx::AttributeProto::INTS
                : type == "ss" ? onnx::AttributeProto::STRINGS
                               : onnx::AttributeProto::FLOATS;
    schema.Attr(name.str(), "", kind, required);
  }
  schema.TypeAndShapeInferenceFunction(
      [inputs, outputs](onnx::InferenceContext &context) {
        inferTypes(context, inputs, outputs);
      });
  return schema;
}

void onnxd::registerContribSchemas() {
  static std::once_flag once;
  std::call_once(once, [] {
    auto &range = onnx::OpSchemaRegistry::DomainToVersionRange::Instance();
    if (!range.Map().count(kMicrosoft))
      range.AddDomainToVersion(kMicrosoft, 1, 1);
    for (const Row &row : rows)
      onnx::RegisterSchema(makeSchema(row));
  });
}
