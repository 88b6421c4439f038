// Output files appear all at once or not at all; weights in both forms.
#include "Support.h"

#include "dlc/Artifact/Weights.h"
#include "dlc/runtime.h"

#include "llvm/Object/ELFObjectFile.h"

using namespace llvm;
using namespace dlc;
using namespace dlctest;

namespace {
class Output : public Scratch {};

std::string contents(const std::string &path) {
  auto buffer = MemoryBuffer::getFile(path);
  return buffer ? (*buffer)->getBuffer().str() : "<missing>";
}
} // namespace

TEST_F(Output, CommitMovesAll) {
  OutputSet outputs;
  ASSERT_EQ(text(outputs.write(in("a"), "one")), "");
  ASSERT_EQ(text(outputs.write(in("b"), "two")), "");
  EXPECT_FALSE(sys::fs::exists(in("a")));
  ASSERT_EQ(text(outputs.commit()), "");
  EXPECT_EQ(contents(in("a")), "one");
  EXPECT_EQ(contents(in("b")), "two");
  EXPECT_EQ(files().size(), 2u);
}

TEST_F(Output, DroppedSetLeavesTheOldFile) {
  std::ofstream(in("a")) << "old";
  {
    OutputSet outputs;
    ASSERT_EQ(text(outputs.write(in("a"), "new")), "");
  }
  EXPECT_EQ(contents(in("a")), "old");
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(Output, FailedCommitRemovesAll) {
  ASSERT_FALSE(sys::fs::create_directory(in("b")));
  std::ofstream(in("b") + "/keep") << "";
  OutputSet outputs;
  ASSERT_EQ(text(outputs.write(in("a"), "one")), "");
  ASSERT_EQ(text(outputs.write(in("b"), "two")), "");
  std::string message = text(outputs.commit());
  EXPECT_NE(message.find("b: cannot rename into place"), std::string::npos)
      << message;
  EXPECT_EQ(files(), std::vector<std::string>{"b"});
}

TEST_F(Output, MissingFolder) {
  OutputSet outputs;
  std::string message = text(outputs.write(in("none/a"), "one"));
  EXPECT_NE(message.find("none/a: cannot create: No such file"),
            std::string::npos)
      << message;
}

TEST_F(Output, WeightsFile) {
  OutputSet outputs;
  auto writer = cantFail(WeightsWriter::createFile(outputs, in("m.weights")));
  std::vector<char> values(3 << 20, 7);
  writer->append(ArrayRef<char>(values).take_front(5));
  writer->alignTo(64);
  EXPECT_EQ(writer->offset(), 64u);
  writer->append(values);
  auto summary = cantFail(writer->finish());
  ASSERT_EQ(text(outputs.commit()), "");

  std::string file = contents(in("m.weights"));
  ASSERT_EQ(file.size(), 4096 + 64 + values.size());
  dlc_weights_header header;
  std::memcpy(&header, file.data(), sizeof header);
  EXPECT_EQ(std::memcmp(header.magic, DLC_WEIGHTS_MAGIC, 8), 0);
  EXPECT_EQ(header.data_size, static_cast<uint64_t>(summary.size));
  EXPECT_EQ(header.checksum, summary.checksum);
  EXPECT_EQ(summary.checksum,
            dlc_weights_checksum(0, file.data() + 4096, file.size() - 4096));
  EXPECT_EQ(StringRef(file).substr(4096, 6), StringRef("\7\7\7\7\7\0", 6));
}

TEST_F(Output, WeightsObject) {
  for (StringRef arch : {"x86_64", "aarch64", "riscv64"}) {
    std::string path = in((arch + ".o").str());
    auto writer = cantFail(WeightsWriter::createObject(
        Triple(arch + "-unknown-linux-gnu"), path, "m_weights"));
    writer->append({'a', 'b', 'c'});
    auto summary = cantFail(writer->finish());
    EXPECT_EQ(summary.checksum, dlc_weights_checksum(0, "abc", 3));
    auto object = cantFail(object::ObjectFile::createObjectFile(path));
    unsigned found = 0;
    for (const object::SymbolRef &symbol : object.getBinary()->symbols()) {
      if (cantFail(symbol.getName()) != "m_weights")
        continue;
      ++found;
      EXPECT_EQ(object::ELFSymbolRef(symbol).getOther(), ELF::STV_HIDDEN);
      auto section = cantFail(symbol.getSection());
      EXPECT_EQ(cantFail(section->getContents()), "abc");
      EXPECT_GE(section->getAlignment(), Align(64));
    }
    EXPECT_EQ(found, 1u);
  }
}
