// Hand-made ELF: simpler than a detour over assembler text, and the only way to
// stream gigabytes of weights into an object without holding them.
#include "ElfFile.h"

#include "llvm/Support/ErrorHandling.h"

#include <cstring>

using namespace llvm;
using namespace dlc;

uint32_t ElfStrings::add(StringRef name) {
  auto offset = static_cast<uint32_t>(text.size());
  text += name;
  text += '\0';
  return offset;
}

static uint16_t machineOf(const Triple &triple) {
  switch (triple.getArch()) {
  case Triple::x86_64:
    return ELF::EM_X86_64;
  case Triple::aarch64:
    return ELF::EM_AARCH64;
  case Triple::riscv64:
    return ELF::EM_RISCV;
  default:
    llvm_unreachable("artifacts are made for 64-bit little-endian CPUs only");
  }
}

ELF::Elf64_Ehdr dlc::makeElfHeader(const Triple &triple, uint16_t type,
                                   uint64_t sectionHeaders,
                                   uint16_t numSections,
                                   uint16_t stringSection) {
  ELF::Elf64_Ehdr header;
  std::memset(&header, 0, sizeof header);
  std::memcpy(header.e_ident, ELF::ElfMagic, 4);
  header.e_ident[ELF::EI_CLASS] = ELF::ELFCLASS64;
  header.e_ident[ELF::EI_DATA] = ELF::ELFDATA2LSB;
  header.e_ident[ELF::EI_VERSION] = ELF::EV_CURRENT;
  header.e_type = type;
  header.e_machine = machineOf(triple);
  header.e_version = ELF::EV_CURRENT;
  header.e_shoff = sectionHeaders;
  header.e_ehsize = sizeof(ELF::Elf64_Ehdr);
  header.e_shentsize = sizeof(ELF::Elf64_Shdr);
  header.e_shnum = numSections;
  header.e_shstrndx = stringSection;
  if (triple.getArch() == Triple::riscv64)
    header.e_flags = ELF::EF_RISCV_RVC | ELF::EF_RISCV_FLOAT_ABI_DOUBLE;
  return header;
}

template <typename T>
static void put(std::string &out, const T &value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);
}

std::string dlc::makeStubLibrary(const Triple &triple, StringRef soname,
                                 ArrayRef<StringRef> functions) {
  ElfStrings strings;
  std::string symbols(sizeof(ELF::Elf64_Sym), '\0'), dynamic;
  for (StringRef function : functions) {
    ELF::Elf64_Sym symbol;
    std::memset(&symbol, 0, sizeof symbol);
    symbol.st_name = strings.add(function);
    symbol.setBindingAndType(ELF::STB_GLOBAL, ELF::STT_FUNC);
    symbol.st_shndx = ELF::SHN_ABS;
    put(symbols, symbol);
  }
  auto entry = [&](int64_t tag, uint64_t value) {
    put(dynamic, tag);
    put(dynamic, value);
  };
  entry(ELF::DT_SONAME, strings.add(soname));
  entry(ELF::DT_NULL, 0);

  ElfStrings names;
  std::string file(sizeof(ELF::Elf64_Ehdr), '\0');
  std::vector<ELF::Elf64_Shdr> sections(1);
  std::memset(sections.data(), 0, sizeof(ELF::Elf64_Shdr));
  auto section = [&](StringRef name, uint32_t type, const std::string &bytes,
                     uint32_t link, uint32_t info, uint64_t entrySize) {
    file.resize((file.size() + 7) & ~size_t(7));
    ELF::Elf64_Shdr header;
    std::memset(&header, 0, sizeof header);
    header.sh_name = names.add(name);
    header.sh_type = type;
    header.sh_flags = type == ELF::SHT_STRTAB && link ? 0 : ELF::SHF_ALLOC;
    header.sh_offset = file.size();
    header.sh_size = bytes.size();
    header.sh_link = link;
    header.sh_info = info;
    header.sh_addralign = 8;
    header.sh_entsize = entrySize;
    sections.push_back(header);
    file += bytes;
  };
  section(".dynsym", ELF::SHT_DYNSYM, symbols, 2, 1, sizeof(ELF::Elf64_Sym));
  section(".dynstr", ELF::SHT_STRTAB, strings.bytes(), 0, 0, 0);
  section(".dynamic", ELF::SHT_DYNAMIC, dynamic, 2, 0, 16);
  names.add(".shstrtab");
  std::string nameBytes = names.bytes();
  section(".shstrtab", ELF::SHT_STRTAB, nameBytes, 0, 0, 0);
  sections.back().sh_name = static_cast<uint32_t>(nameBytes.size() - 10);

  file.resize((file.size() + 7) & ~size_t(7));
  ELF::Elf64_Ehdr header = makeElfHeader(
      triple, ELF::ET_DYN, file.size(), static_cast<uint16_t>(sections.size()),
      static_cast<uint16_t>(sections.size() - 1));
  std::memcpy(file.data(), &header, sizeof header);
  for (const ELF::Elf64_Shdr &s : sections)
    put(file, s);
  return file;
}
