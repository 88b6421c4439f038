// Schemas of the com.microsoft operators that real exporters emit.
#ifndef LIB_DIALECT_ONNX_IR_CONTRIBSCHEMAS_H
#define LIB_DIALECT_ONNX_IR_CONTRIBSCHEMAS_H

namespace dlc::onnxd {

/// Adds them to onnx's registry; later calls do nothing.
void registerContribSchemas();

} // namespace dlc::onnxd

#endif // LIB_DIALECT_ONNX_IR_CONTRIBSCHEMAS_H
