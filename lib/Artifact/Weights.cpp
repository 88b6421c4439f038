// The two forms of weights. Both begin with a page for their head, which is
// filled in last, when size and checksum are known.
#include "dlc/Artifact/Weights.h"

#include "ElfFile.h"
#include "dlc/runtime.h"

#include "llvm/Support/Alignment.h"
#include "llvm/Support/FileSystem.h"

#include <cstring>

using namespace llvm;
using namespace dlc;

namespace {

/// x86 code reaches 2 GiB around itself; weights from here on lie elsewhere.
constexpr uint64_t kFar = uint64_t(1) << 30;

class WeightsFile final : public WeightsWriter {
public:
  WeightsFile(std::string path, int fd) : WeightsWriter(std::move(path), fd) {
    stream.write_zeros(DLC_WEIGHTS_DATA_OFFSET);
  }

private:
  void complete(uint64_t checksum) override {
    dlc_weights_header header;
    std::memset(&header, 0, sizeof header);
    std::memcpy(header.magic, DLC_WEIGHTS_MAGIC, sizeof header.magic);
    header.data_offset = DLC_WEIGHTS_DATA_OFFSET;
    header.data_size = size;
    header.checksum = checksum;
    stream.pwrite(reinterpret_cast<const char *>(&header), sizeof header, 0);
  }
};

class WeightsObject final : public WeightsWriter {
public:
  WeightsObject(std::string path, int fd, const Triple &triple,
                StringRef symbol)
      : WeightsWriter(std::move(path), fd), triple(triple), symbol(symbol) {
    stream.write_zeros(DLC_WEIGHTS_DATA_OFFSET);
  }

private:
  void complete(uint64_t) override {
    ElfStrings strings;
    ELF::Elf64_Sym symbols[2];
    std::memset(symbols, 0, sizeof symbols);
    symbols[1].st_name = strings.add(symbol);
    symbols[1].setBindingAndType(ELF::STB_GLOBAL, ELF::STT_OBJECT);
    symbols[1].st_other = ELF::STV_HIDDEN;
    symbols[1].st_shndx = 1;
    symbols[1].st_size = size;

    ElfStrings names;
    ELF::Elf64_Shdr sections[6];
    std::memset(sections, 0, sizeof sections);
    auto fill = [&](unsigned index, StringRef name, uint32_t type,
                    uint64_t flags, uint64_t offset, uint64_t bytes,
                    uint64_t alignment) {
      ELF::Elf64_Shdr &s = sections[index];
      s.sh_name = names.add(name);
      s.sh_type = type;
      s.sh_flags = flags;
      s.sh_offset = offset;
      s.sh_size = bytes;
      s.sh_addralign = alignment;
    };
    // Beside code, gigabytes would push it out of reach of its own data.
    bool far = triple.getArch() == Triple::x86_64 && size >= kFar;
    fill(1, far ? ".lrodata.dlc_weights" : ".rodata.dlc_weights",
         ELF::SHT_PROGBITS,
         ELF::SHF_ALLOC | (far ? uint64_t(ELF::SHF_X86_64_LARGE) : 0),
         DLC_WEIGHTS_DATA_OFFSET, size, DLC_WEIGHTS_DATA_OFFSET);
    uint64_t at = alignAfterData();
    fill(2, ".symtab", ELF::SHT_SYMTAB, 0, at, sizeof symbols, 8);
    sections[2].sh_link = 3;
    sections[2].sh_info = 1;
    sections[2].sh_entsize = sizeof(ELF::Elf64_Sym);
    stream.write(reinterpret_cast<const char *>(symbols), sizeof symbols);
    fill(3, ".strtab", ELF::SHT_STRTAB, 0, stream.tell(),
         strings.bytes().size(), 1);
    stream << strings.bytes();
    fill(4, ".note.GNU-stack", ELF::SHT_PROGBITS, 0, stream.tell(), 0, 1);
    fill(5, ".shstrtab", ELF::SHT_STRTAB, 0, stream.tell(), 0, 1);
    sections[5].sh_size = names.bytes().size();
    stream << names.bytes();
    stream.write_zeros(offsetToAlignment(stream.tell(), Align(8)));
    uint64_t headers = stream.tell();
    stream.write(reinterpret_cast<const char *>(sections), sizeof sections);
    ELF::Elf64_Ehdr header =
        makeElfHeader(triple, ELF::ET_REL, headers, /*numSections=*/6,
                      /*stringSection=*/5);
    stream.pwrite(reinterpret_cast<const char *>(&header), sizeof header, 0);
  }

  uint64_t alignAfterData() {
    stream.write_zeros(offsetToAlignment(stream.tell(), Align(8)));
    return stream.tell();
  }

  Triple triple;
  std::string symbol;
};

} // namespace

static Expected<int> openForWrite(StringRef path) {
  int fd = -1;
  if (std::error_code code = sys::fs::openFileForWrite(path, fd))
    return fileError(path, "cannot write", code);
  return fd;
}

Expected<std::unique_ptr<WeightsWriter>>
WeightsWriter::createFile(OutputSet &outputs, StringRef path) {
  Expected<std::string> temporary = outputs.stage(path);
  if (!temporary)
    return temporary.takeError();
  Expected<int> fd = openForWrite(*temporary);
  if (!fd)
    return fd.takeError();
  return std::make_unique<WeightsFile>(path.str(), *fd);
}

Expected<std::unique_ptr<WeightsWriter>>
WeightsWriter::createObject(const Triple &triple, StringRef path,
                            StringRef symbol) {
  Expected<int> fd = openForWrite(path);
  if (!fd)
    return fd.takeError();
  return std::make_unique<WeightsObject>(path.str(), *fd, triple, symbol);
}

void WeightsWriter::hashPending() {
  checksum = dlc_weights_checksum(checksum, pending.data(), pending.size());
  pending.clear();
}

void WeightsWriter::append(ArrayRef<char> bytes) {
  stream.write(bytes.data(), bytes.size());
  size += bytes.size();
  while (!bytes.empty()) {
    size_t room = DLC_WEIGHTS_PIECE - pending.size();
    ArrayRef<char> part = bytes.take_front(room);
    pending.insert(pending.end(), part.begin(), part.end());
    bytes = bytes.drop_front(part.size());
    if (pending.size() == DLC_WEIGHTS_PIECE)
      hashPending();
  }
}

void WeightsWriter::alignTo(uint64_t alignment) {
  std::vector<char> zeros(offsetToAlignment(size, Align(alignment)), '\0');
  append(zeros);
}

Expected<WeightsWriter::Summary> WeightsWriter::finish() {
  if (!pending.empty() || size == 0)
    hashPending();
  complete(checksum);
  stream.close();
  if (std::error_code code = stream.error()) {
    stream.clear_error();
    return fileError(path, "cannot write", code);
  }
  return Summary{static_cast<int64_t>(size), checksum};
}
