//===- ImportError.cpp - why a model was refused --------------------------===//
//
// The one place that spells a problem, so that all of them read alike.
//
//===----------------------------------------------------------------------===//

#include "dlc/Frontend/ONNX/ImportError.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;

char ImportError::ID = 0;

/// Names come from the model and may hold anything: a message stays one line
/// of valid UTF-8.
static std::string printable(std::string text) {
  if (!llvm::json::isUTF8(text))
    text = llvm::json::fixUTF8(text);
  std::string out;
  for (char c : text) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f)
      out += c;
    else
      out += "\\x" + llvm::toHex(llvm::StringRef(&c, 1), /*LowerCase=*/true);
  }
  return out;
}

std::string ModelProblem::text() const {
  std::string out = where;
  if (!op.empty()) {
    out += " (" + op;
    if (opset > 0)
      out += ", opset " + std::to_string(opset);
    out += ")";
  }
  if (!out.empty())
    out += ": ";
  out += reason;
  if (!types.empty())
    out += "; operands " + types;
  return printable(std::move(out));
}

void ImportError::log(llvm::raw_ostream &os) const {
  llvm::interleave(
      problems, os,
      [&](const ModelProblem &problem) {
        os << file << ": " << problem.text();
      },
      "\n");
}

std::error_code ImportError::convertToErrorCode() const {
  return std::make_error_code(kind == Kind::File ? std::errc::io_error
                                                 : std::errc::invalid_argument);
}
