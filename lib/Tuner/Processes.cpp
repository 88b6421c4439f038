// Work in processes of its own.
#include "dlc/Tuner/Runner.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace dlc::tuner;
using Clock = std::chrono::steady_clock;

namespace {
struct Child {
  unsigned index = 0;
  pid_t process = -1;
  int pipe = -1;
  std::string text;
  Clock::time_point deadline;
};
} // namespace

static bool writeAll(int file, const std::string &text) {
  for (size_t done = 0; done < text.size();) {
    ssize_t n = write(file, text.data() + done, text.size() - done);
    if (n <= 0)
      return false;
    done += size_t(n);
  }
  return true;
}

/// The process ends by SIGXCPU once it has used so much of a CPU, by SIGKILL a
/// second later.
static void limitCpu(double seconds) {
  auto most = rlim_t(std::ceil(seconds));
  rlimit limit{most, most + 1};
  setrlimit(RLIMIT_CPU, &limit);
}

/// Reads what is there; false at the end.
static bool readSome(Child &child) {
  char buffer[65536];
  ssize_t n = read(child.pipe, buffer, sizeof buffer);
  if (n > 0)
    child.text.append(buffer, size_t(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

std::vector<std::optional<std::string>> dlc::tuner::runInProcesses(
    unsigned count, unsigned jobs, double seconds,
    llvm::function_ref<bool(unsigned, std::string &)> body,
    std::vector<std::string> &reasons) {
  std::vector<std::optional<std::string>> results(count);
  reasons.assign(count, "");
  std::vector<Child> running;
  // On a machine that others use, time passes that a process did not have.
  const double passed = 10 * seconds + 20;
  auto start = [&](unsigned i) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      reasons[i] = "no pipe";
      return;
    }
    Child child;
    child.index = i;
    child.deadline =
        Clock::now() + std::chrono::milliseconds(int64_t(passed * 1000));
    child.process = fork();
    if (child.process == 0) {
      setpgid(0, 0);
      // A candidate's death is a result; dlc has nothing to say of it.
      for (int signal :
           {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGXCPU})
        std::signal(signal, SIG_DFL);
      limitCpu(seconds);
      alarm(unsigned(passed) + 2); // should the parent be killed
      std::string text;
      bool good = body(i, text);
      _exit(writeAll(ends[1], text) && good ? 0 : 1);
    }
    close(ends[1]);
    child.pipe = ends[0];
    if (child.process < 0) {
      close(ends[0]);
      reasons[i] = "no process";
      return;
    }
    running.push_back(std::move(child));
  };
  auto finish = [&](Child &child, bool late) {
    if (late)
      kill(-child.process, SIGKILL), kill(child.process, SIGKILL);
    close(child.pipe);
    int status = 0;
    while (waitpid(child.process, &status, 0) < 0 && errno == EINTR)
      ;
    if (late || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU))
      reasons[child.index] = "took too long";
    else if (WIFSIGNALED(status))
      reasons[child.index] =
          std::string("died of signal ") + std::to_string(WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
      reasons[child.index] = child.text;
    else
      results[child.index] = std::move(child.text);
  };
  for (unsigned next = 0; next < count || !running.empty();) {
    while (next < count && running.size() < std::max(jobs, 1u))
      start(next++);
    std::vector<pollfd> polls;
    for (Child &child : running)
      polls.push_back({child.pipe, POLLIN, 0});
    poll(polls.data(), polls.size(), 50);
    for (size_t i = running.size(); i-- > 0;) {
      bool ended = polls[i].revents && !readSome(running[i]);
      bool late = !ended && Clock::now() > running[i].deadline;
      if (!ended && !late)
        continue;
      finish(running[i], late);
      running.erase(running.begin() + long(i));
    }
  }
  return results;
}

MeasureLock::MeasureLock() {
  llvm::SmallString<128> path;
  llvm::sys::path::system_temp_directory(true, path);
  llvm::sys::path::append(path, "dlc-measure-" + std::to_string(getuid()));
  file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  while (file >= 0 && flock(file, LOCK_EX) != 0 && errno == EINTR)
    ;
}

MeasureLock::~MeasureLock() {
  if (file >= 0)
    close(file);
}
