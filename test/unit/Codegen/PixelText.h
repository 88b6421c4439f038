// The text of a convolution of bytes whose image has its channels last.
#ifndef DLC_TEST_UNIT_CODEGEN_PIXELTEXT_H
#define DLC_TEST_UNIT_CODEGEN_PIXELTEXT_H

#include "KernelText.h"

namespace dlc::test {

/// Where a zero point comes from: there is none, one number, or one for each
/// column.
enum class PixelZero { None, One, Each };

/// y[n, i, j, o] = sum over p, q, c of
///   (x[n, i * stride + p * dilation - pad, ..., c] - z) * (w[o, c, p, q] - v),
/// x being z outside of the image. Operands x, w, z, v as they exist.
struct Pixels {
  std::string images = "1", height = "5", width = "7";
  int64_t channels = 8, columns = 17, groups = 1;
  int64_t taps = 3, stride = 1, dilation = 1, pad = 1;
  std::string image = "ui8", weights = "i8";
  bool channelsFirst = false; ///< of the image; the result has them last
  PixelZero imageZero = PixelZero::One, weightZero = PixelZero::None;

  std::string describe() const {
    return images + "x" + height + "x" + width + "x" +
           std::to_string(channels) + " -> " + std::to_string(columns) +
           " groups " + std::to_string(groups) + " taps " +
           std::to_string(taps) + " stride " + std::to_string(stride) +
           " dilation " + std::to_string(dilation) + " pad " +
           std::to_string(pad) + (channelsFirst ? " first " : " ") + image +
           " " + weights + " zeros " + std::to_string(int(imageZero)) +
           std::to_string(int(weightZero));
  }

  std::string text() const {
    auto number = [](int64_t n) { return std::to_string(n); };
    // Symbolic sizes are of an output of the image's size.
    auto outOf = [&](const std::string &size) {
      return size[0] == 's' ? size
                            : number((std::stoll(size) + 2 * pad -
                                      dilation * (taps - 1) - 1) /
                                         stride +
                                     1);
    };
    std::string dims = "(d0, d1, d2, d3, d4, d5, d6)[s0, s1]",
                coords = "(%n, %i, %j, %o, %p, %q, %c)", h = outOf(height),
                w = outOf(width), per = number(columns / groups),
                c = number(channels);
    std::string all = number(channels * groups),
                x = tensorType(
                    channelsFirst
                        ? std::vector<std::string>{images, all, height, width}
                        : std::vector<std::string>{images, height, width, all},
                    image),
                weight = tensorType(
                    {number(columns), c, number(taps), number(taps)}, weights),
                y = tensorType({images, h, w, number(columns)}, "i32"),
                z = tensorType({}, image),
                v = tensorType(weightZero == PixelZero::Each
                                   ? std::vector<std::string>{number(columns)}
                                   : std::vector<std::string>{},
                               weights);
    auto at = [&](const std::string &out, const std::string &tap) {
      return out + " * " + number(stride) + " + " + tap + " * " +
             number(dilation) + " - " + number(pad);
    };
    std::string row = at("d1", "d4"), column = at("d2", "d5");
    bool hasSymbols = (images + height + width).find('s') != std::string::npos;
    if (!hasSymbols)
      dims = "(d0, d1, d2, d3, d4, d5, d6)";
    std::string arguments = "%x: " + x + ", %w: " + weight, body;
    if (imageZero != PixelZero::None) {
      arguments += ", %z: " + z;
      body += "%zx = graph.load %z[affine_map<" + dims + " -> ()>]" + coords +
              " : " + z + " -> " + image + "\n";
    } else {
      body += "%zx = graph.literal 0 : " + image + " : " + image + "\n";
    }
    std::string guard;
    if (pad)
      guard = " guard affine_set<" + dims + " : (" + row + " >= 0, " + height +
              " - 1 - (" + row + ") >= 0, " + column + " >= 0, " + width +
              " - 1 - (" + column + ") >= 0)> else %zx : " + image;
    std::string channel =
        (groups > 1 ? "(d3 floordiv " + per + ") * " + c + " + " : "") + "d6";
    body += "%a = graph.load %x[affine_map<" + dims + " -> (d0, " +
            (channelsFirst ? channel + ", " + row + ", " + column
                           : row + ", " + column + ", " + channel) +
            ")>]" + coords + guard + " : " + x + " -> " + image +
            "\n%b = graph.load %w[affine_map<" + dims +
            " -> (d3, d6, d4, d5)>]" + coords + " : " + weight + " -> " +
            weights + "\n%aw = graph.scalar_cast %a : " + image +
            " -> i32\n%bw = graph.scalar_cast %b : " + weights + " -> i32\n";
    std::string left = "aw", right = "bw";
    if (imageZero != PixelZero::None) {
      body += "%zw = graph.scalar_cast %zx : " + image +
              " -> i32\n%as = graph.apply sub(%aw, %zw) : (i32, i32) -> i32\n";
      left = "as";
    }
    if (weightZero != PixelZero::None) {
      arguments += ", %v: " + v;
      body += "%vx = graph.load %v[affine_map<" + dims + " -> (" +
              (weightZero == PixelZero::Each ? "d3" : "") + ")>]" + coords +
              " : " + v + " -> " + weights +
              "\n%vw = graph.scalar_cast %vx : " + weights +
              " -> i32\n%bs = graph.apply sub(%bw, %vw) : (i32, i32) -> i32\n";
      right = "bs";
    }
    std::string symbols;
    if (hasSymbols)
      symbols = "\"s0\", \"s1\"";
    return "graph.kernel @kernel(" + arguments + ") -> " + y +
           " attributes {symbols = [" + symbols +
           "]} {\n%s = graph.stage domain <" + images + ", " + h + ", " + w +
           ", " + number(columns) + "> reduce <" + number(taps) + ", " +
           number(taps) + ", " + c + "> fold add : " + y +
           " {\n^bb0(%n: index, %i: index, %j: index, %o: index, %p: index, "
           "%q: index, %c: index):\n" +
           body + "%m = graph.apply mul(%" + left + ", %" + right +
           ") : (i32, i32) -> i32\ngraph.yield %m : i32\n}\ngraph.return %s "
           ": " +
           y + "\n}";
  }
};

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_PIXELTEXT_H
