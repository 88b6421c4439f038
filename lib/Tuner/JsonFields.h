// Reading and writing the fields of a record's objects: one list, `visit`,
// serves both ways.
#ifndef DLC_LIB_TUNER_JSONFIELDS_H
#define DLC_LIB_TUNER_JSONFIELDS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <nlohmann/json.hpp>

namespace dlc::tuner {

using Json = nlohmann::json;

/// Reads or writes the fields of one object: one list serves both ways.
struct Fields {
  Json json;
  bool isReading = false;
  std::string problem;

  /// `isLater`: records from before the field keep its default.
  template <typename T>
  void operator()(const char *name, T &value, bool isLater = false) {
    if (!isReading) {
      json[name] = value;
      return;
    }
    auto it = json.find(name);
    if (it == json.end() && isLater)
      return;
    bool fits = it != json.end() &&
                (std::is_same_v<T, std::string> ? it->is_string()
                 : std::is_same_v<T, bool>      ? it->is_boolean()
                 : std::is_same_v<T, double>    ? it->is_number()
                                                : it->is_number_integer());
    if (fits)
      value = it->template get<T>();
    else if (problem.empty())
      problem = std::string("field '") + name + "' is missing or no such value";
  }
};

template <typename T>
llvm::Expected<T> parseFields(const char *what, llvm::StringRef text) {
  T value;
  Fields fields{
      Json::parse(text.begin(), text.end(), nullptr, false), true, {}};
  if (!fields.json.is_object())
    return llvm::createStringError(llvm::Twine(what) + ": is no JSON object");
  visit(fields, value);
  if (!fields.problem.empty())
    return llvm::createStringError(llvm::Twine(what) + ": " + fields.problem);
  return value;
}

template <typename T>
std::string writeFields(T copy, Json object) {
  Fields fields{std::move(object), false, {}};
  visit(fields, copy);
  return fields.json.dump();
}

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_JSONFIELDS_H
