// Bitcode behind machine code. A mark in the code says that there is some, so
// that nobody reads past the end of code without.
#include "dlc/Emulator/EmulatedImage.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Support/MathExtras.h"

#include <cstring>

using namespace llvm;
using namespace dlc;

static constexpr StringLiteral kPtxMark = "// dlc: bitcode follows the text\n";
/// In the padding of e_ident.
static constexpr char kElfMark[] = {'d', 'l', 'c'};
static constexpr size_t kElfMarkOffset = 12;

static bool isElf(const char *code) {
  return std::memcmp(code, ELF::ElfMagic, 4) == 0;
}

// Sections and headers may come in any order.
static size_t elfSize(const char *code) {
  ELF::Elf64_Ehdr header;
  std::memcpy(&header, code, sizeof header);
  size_t end = std::max<size_t>(
      header.e_shoff + size_t(header.e_shnum) * header.e_shentsize,
      header.e_phoff + size_t(header.e_phnum) * header.e_phentsize);
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    ELF::Elf64_Shdr section;
    std::memcpy(&section, code + header.e_shoff + i * header.e_shentsize,
                sizeof section);
    if (section.sh_type != ELF::SHT_NOBITS)
      end = std::max<size_t>(end, section.sh_offset + section.sh_size);
  }
  return end;
}

std::string emu::addBitcode(std::string code, StringRef bitcode) {
  if (isElf(code.data()))
    std::memcpy(code.data() + kElfMarkOffset, kElfMark, sizeof kElfMark);
  else
    code = (kPtxMark + code).str() + '\0';
  uint64_t size = bitcode.size();
  code.append(reinterpret_cast<const char *>(&size), sizeof size);
  return code + bitcode.str();
}

StringRef emu::findBitcode(const char *code) {
  const char *end;
  if (isElf(code)) {
    if (std::memcmp(code + kElfMarkOffset, kElfMark, sizeof kElfMark) != 0)
      return {};
    end = code + elfSize(code);
  } else {
    size_t length = std::strlen(code);
    if (!StringRef(code, length).starts_with(kPtxMark))
      return {};
    end = code + length + 1;
  }
  uint64_t size;
  std::memcpy(&size, end, sizeof size);
  return StringRef(end + sizeof size, size);
}

emu::CodeTarget emu::readTarget(const char *code) {
  CodeTarget target;
  if (isElf(code)) {
    ELF::Elf64_Ehdr header;
    std::memcpy(&header, code, sizeof header);
    // Since CUDA 13 the architecture is the second byte, before it was the
    // first. Whether it is of the "a" kind is not told.
    constexpr unsigned abiOfCuda13 = 8;
    bool isNew = header.e_ident[ELF::EI_ABIVERSION] >= abiOfCuda13;
    target.arch = isNew ? header.e_flags >> 8 & 0xff : header.e_flags & 0xff;
    return target;
  }
  target.isPtx = true;
  StringRef text(code);
  text = text.drop_front(std::min(text.find("\n.target sm_"), text.size()));
  if (text.consume_front("\n.target sm_")) {
    StringRef number = text.take_while(isDigit);
    number.getAsInteger(10, target.arch);
    target.exact = text.drop_front(number.size()).starts_with("a");
  }
  return target;
}
