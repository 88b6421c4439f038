// Typed access to a manifest's values.
#include "Reader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

std::string dlc::library::suggest(StringRef name, ArrayRef<StringRef> names) {
  StringRef nearest;
  unsigned best = 3;
  for (StringRef candidate : names)
    if (unsigned distance = name.edit_distance(candidate); distance < best) {
      best = distance;
      nearest = candidate;
    }
  if (!nearest.empty())
    return "; did you mean '" + nearest.str() + "'?";
  return "; expected one of " + llvm::join(names, ", ");
}

static std::string show(const Json &value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 40 ? text.substr(0, 37) + "..." : text;
}

bool Reader::isObject(ArrayRef<StringRef> known) const {
  if (!value->is_object()) {
    fail("is " + show(*value) + "; expected an object");
    return false;
  }
  for (auto &[key, unused] : value->items())
    if (!llvm::is_contained(known, key))
      fail(key, "unknown key" + suggest(key, known));
  return true;
}

bool Reader::check(StringRef key, StringRef text,
                   ArrayRef<StringRef> allowed) const {
  if (allowed.empty() || llvm::is_contained(allowed, text))
    return true;
  fail(key, "'" + text.str() + "' is unknown" + suggest(text, allowed));
  return false;
}

std::string Reader::getString(StringRef key, StringRef otherwise,
                              ArrayRef<StringRef> allowed) const {
  if (!has(key))
    return otherwise.str();
  const Json &found = value->at(key.str());
  if (!found.is_string()) {
    fail(key, "is " + show(found) + "; expected a text");
    return otherwise.str();
  }
  std::string text = found.get<std::string>();
  return check(key, text, allowed) ? text : otherwise.str();
}

// An integer that fits.
static bool readInt(const Json &value, int64_t low, int64_t high,
                    int64_t &result) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() &&
       value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)))
    return false;
  result = value.get<int64_t>();
  return result >= low && result <= high;
}

static std::string describeInts(int64_t low, int64_t high) {
  return "expected a whole number from " + std::to_string(low) + " to " +
         std::to_string(high);
}

int64_t Reader::getInt(StringRef key, int64_t otherwise, int64_t low,
                       int64_t high) const {
  if (!has(key))
    return otherwise;
  int64_t result;
  if (readInt(value->at(key.str()), low, high, result))
    return result;
  fail(key,
       "is " + show(value->at(key.str())) + "; " + describeInts(low, high));
  return otherwise;
}

double Reader::getNumber(StringRef key, double otherwise) const {
  if (!has(key))
    return otherwise;
  if (value->at(key.str()).is_number())
    return value->at(key.str()).get<double>();
  fail(key, "is " + show(value->at(key.str())) + "; expected a number");
  return otherwise;
}

bool Reader::getBool(StringRef key, bool otherwise) const {
  if (!has(key))
    return otherwise;
  if (value->at(key.str()).is_boolean())
    return value->at(key.str()).get<bool>();
  fail(key, "is " + show(value->at(key.str())) + "; expected true or false");
  return otherwise;
}

std::vector<std::string> Reader::getStrings(StringRef key,
                                            std::vector<std::string> otherwise,
                                            ArrayRef<StringRef> allowed) const {
  if (!has(key))
    return otherwise;
  const Json &found = value->at(key.str());
  if (found.is_string()) {
    std::string text = found.get<std::string>();
    return check(key, text, allowed) ? std::vector<std::string>{text}
                                     : otherwise;
  }
  if (!found.is_array()) {
    fail(key, "is " + show(found) + "; expected a list of texts");
    return otherwise;
  }
  std::vector<std::string> texts;
  for (auto [i, element] : llvm::enumerate(found)) {
    std::string place = key.str() + "[" + std::to_string(i) + "]";
    if (!element.is_string())
      fail(place, "is " + show(element) + "; expected a text");
    else if (check(place, element.get<std::string>(), allowed))
      texts.push_back(element.get<std::string>());
  }
  return texts;
}

std::vector<int64_t> Reader::getInts(StringRef key,
                                     std::vector<int64_t> otherwise,
                                     int64_t low, int64_t high) const {
  if (!has(key))
    return otherwise;
  const Json &found = value->at(key.str());
  if (!found.is_array()) {
    fail(key, "is " + show(found) + "; expected a list of whole numbers");
    return otherwise;
  }
  if (!otherwise.empty() && found.size() != otherwise.size()) {
    fail(key, "has " + std::to_string(found.size()) + " numbers; expected " +
                  std::to_string(otherwise.size()));
    return otherwise;
  }
  std::vector<int64_t> numbers;
  for (auto [i, element] : llvm::enumerate(found)) {
    int64_t number;
    if (!readInt(element, low, high, number)) {
      fail(key.str() + "[" + std::to_string(i) + "]",
           "is " + show(element) + "; " + describeInts(low, high));
      return otherwise;
    }
    numbers.push_back(number);
  }
  return numbers;
}

Range Reader::getRange() const {
  constexpr int64_t most = int64_t(1) << 40;
  Range range;
  if (int64_t size; readInt(*value, 0, most, size))
    return {size, size, size};
  auto malformed = [&] {
    fail("is " + show(*value) +
         "; expected a size, \"low..high@typical\", \"@typical\" or \"any\"");
    return Range();
  };
  if (!value->is_string())
    return malformed();
  std::string storage = value->get<std::string>();
  StringRef text = storage;
  if (text == "any")
    return range;
  auto parse = [&](StringRef part, int64_t &size) {
    return !part.getAsInteger(10, size) && size >= 0 && size <= most;
  };
  auto [bounds, typical] = text.split('@');
  bool hasTypical = text.contains('@');
  if (!bounds.empty()) {
    auto [low, high] = bounds.split("..");
    if (!bounds.contains("..") || !parse(low, range.min) ||
        !parse(high, range.max))
      return malformed();
    range.typical = range.max;
  }
  if (hasTypical && !parse(typical, range.typical))
    return malformed();
  if (bounds.empty() && !hasTypical)
    return malformed();
  if (range.min > range.typical || range.typical > range.max) {
    fail("is " + show(*value) + "; expected low <= typical <= high");
    return Range();
  }
  return range;
}
