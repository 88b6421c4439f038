// Memory of results. What nobody holds any more waits for the next run of the
// model, since the system takes longer to hand out fresh pages than many models
// take to fill them.
#ifndef DLC_PYTHON_RESULTPOOL_H
#define DLC_PYTHON_RESULTPOOL_H

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include <sys/mman.h>

namespace dlc_python {

/// Blocks that begin at cache lines. Any thread may take and give back, also
/// after the pool was closed: then memory goes back to the system at once.
class ResultPool {
public:
  struct Block {
    void *address = nullptr;
    size_t size = 0;
  };

  ResultPool() = default;
  ResultPool(const ResultPool &) = delete;
  ~ResultPool() { setRoom(0); }

  /// At least `bytes` bytes: what was given back last and fits, not twice as
  /// large; else new memory. Throws std::bad_alloc.
  Block take(size_t bytes) {
    {
      std::lock_guard<std::mutex> guard(lock);
      for (size_t i = waiting.size(); i-- > 0;) {
        Block block = waiting[i];
        if (block.size < bytes || block.size / 2 > bytes)
          continue;
        waiting.erase(waiting.begin() + i);
        waitingBytes -= block.size;
        return block;
      }
    }
    size_t size = (bytes + kLine) / kLine * kLine;
    void *address = nullptr;
    if (size <= bytes || posix_memalign(&address, kLine, size) != 0)
      throw std::bad_alloc();
    if (size >= kHuge) { // of whole pages only
      size_t begin =
          (reinterpret_cast<size_t>(address) + kPage - 1) & ~(kPage - 1);
      size_t end = (reinterpret_cast<size_t>(address) + size) & ~(kPage - 1);
      madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
    }
    return {address, size};
  }

  void giveBack(Block block) {
    {
      std::lock_guard<std::mutex> guard(lock);
      waiting.push_back(block);
      waitingBytes += block.size;
    }
    trim();
  }

  /// How many bytes may wait at most; 0: closed.
  void setRoom(size_t bytes) {
    {
      std::lock_guard<std::mutex> guard(lock);
      room = bytes;
    }
    trim();
  }

  size_t getWaitingBytes() {
    std::lock_guard<std::mutex> guard(lock);
    return waitingBytes;
  }

private:
  static constexpr size_t kLine = 64, kPage = 4096, kHuge = 4 << 20;

  /// Frees what waited longest.
  void trim() {
    std::vector<Block> old;
    {
      std::lock_guard<std::mutex> guard(lock);
      size_t count = 0;
      for (; waitingBytes > room; ++count)
        waitingBytes -= waiting[count].size;
      old.assign(waiting.begin(), waiting.begin() + count);
      waiting.erase(waiting.begin(), waiting.begin() + count);
    }
    for (Block block : old)
      std::free(block.address);
  }

  std::mutex lock;
  std::vector<Block> waiting; ///< longest first
  size_t waitingBytes = 0, room = 0;
};

/// One result's memory, an object of the buffer protocol: every array, view,
/// tensor and DLPack capsule made of it holds it, and the last one that goes
/// gives it back.
class ResultMemory {
public:
  ResultMemory(std::shared_ptr<ResultPool> from, size_t bytes)
      : pool(std::move(from)), block(pool->take(bytes)), bytes(bytes) {}
  ResultMemory(const ResultMemory &) = delete;
  ~ResultMemory() { pool->giveBack(block); }

  void *data() const { return block.address; }
  size_t size() const { return bytes; }

private:
  std::shared_ptr<ResultPool> pool;
  ResultPool::Block block;
  size_t bytes;
};

} // namespace dlc_python

#endif // DLC_PYTHON_RESULTPOOL_H
