// The tuner's side of a fleet: jobs as files, lines of JSON to and from the
// Python module that hands them out.
#include "dlc/Tuner/Fleet.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Host.h"

#include <csignal>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using Json = nlohmann::json;

Expected<Measurement> dlc::tuner::runJob(StringRef bytes) {
  Expected<Job> job = Job::parse(bytes);
  if (!job)
    return job.takeError();
  StringRef here = llvm::sys::getHostCPUName();
  // Code for another CPU may die here: that is no fault of the candidate.
  if (job->cpu != here)
    return llvm::createStringError("this worker's CPU is " + here +
                                   ", the job is for " + job->cpu);
  MeasureLock lock;
  return measureSteady(job->candidate, job->reference, job->problem,
                       job->options);
}

Expected<std::unique_ptr<Fleet>> Fleet::start(StringRef address,
                                              StringRef program) {
  auto python = llvm::sys::findProgramByName("python3");
  if (!python)
    return llvm::createStringError("-workers: there is no python3");
  llvm::SmallString<128> folder;
  if (std::error_code code =
          llvm::sys::fs::createUniqueDirectory("dlc-fleet", folder))
    return llvm::createStringError("-workers: no temporary folder: " +
                                   code.message());
  std::unique_ptr<Fleet> fleet(new Fleet());
  fleet->folder = folder.str().str();
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
    return llvm::createStringError("-workers: no pipe");
  // A helper that is gone must not end the tuner: writes fail instead.
  std::signal(SIGPIPE, SIG_IGN);
  std::string words[] = {*python, "-m", "dlc.fleet", address.str(),
                         program.str()};
  std::vector<char *> arguments;
  for (std::string &word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  fleet->process = fork();
  if (fleet->process == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    execv(words[0].c_str(), arguments.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  fleet->toHelper = in[1];
  fleet->fromHelper = out[0];
  if (fleet->process < 0)
    return llvm::createStringError("-workers: no process");
  Expected<std::string> line = fleet->readLine();
  if (!line)
    return line.takeError();
  Json ready = Json::parse(*line, nullptr, false);
  if (!ready.is_object() || !ready.contains("workers"))
    return llvm::createStringError("-workers=" + address + ": " +
                                   (ready.is_object() && ready.contains("error")
                                        ? ready["error"].get<std::string>()
                                        : "dlc.fleet says '" + *line + "'"));
  return fleet;
}

Fleet::~Fleet() {
  if (toHelper >= 0)
    close(toHelper); // the helper ends with its input
  if (fromHelper >= 0)
    close(fromHelper);
  int status = 0;
  if (process > 0)
    while (waitpid(process, &status, 0) < 0 && errno == EINTR)
      ;
  if (!folder.empty())
    llvm::sys::fs::remove_directories(folder);
}

Expected<std::string> Fleet::readLine() {
  for (;;) {
    if (size_t end = buffer.find('\n'); end != std::string::npos) {
      std::string line = buffer.substr(0, end);
      buffer.erase(0, end + 1);
      return line;
    }
    char bytes[65536];
    ssize_t n = read(fromHelper, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return llvm::createStringError(
          "-workers: dlc.fleet has ended (is the Python package of dlc on "
          "PYTHONPATH?)");
    buffer.append(bytes, size_t(n));
  }
}

Error Fleet::measureAll(llvm::ArrayRef<const BuiltKernel *> candidates,
                        const BuiltKernel &reference, const Problem &problem,
                        const MeasureOptions &options, Done done) {
  unsigned first = next;
  for (const BuiltKernel *candidate : candidates) {
    Job job{llvm::sys::getHostCPUName().str(), *candidate, reference, problem,
            options};
    std::string path = folder + "/" + std::to_string(next) + ".job";
    std::error_code code;
    llvm::raw_fd_ostream file(path, code);
    file << job.toBytes();
    file.close();
    if (code || file.error())
      return llvm::createStringError(path + ": cannot be written");
    std::string line = Json({{"id", next}, {"job", path}}).dump() + "\n";
    for (size_t sent = 0; sent < line.size();) {
      ssize_t n = write(toHelper, line.data() + sent, line.size() - sent);
      if (n <= 0)
        return llvm::createStringError("-workers: dlc.fleet has ended");
      sent += size_t(n);
    }
    ++next;
  }
  std::string problems;
  for (size_t left = candidates.size(); left > 0;) {
    Expected<std::string> line = readLine();
    if (!line)
      return line.takeError();
    Json answer = Json::parse(*line, nullptr, false);
    unsigned id = answer.is_object() && answer.contains("id") &&
                          answer["id"].is_number_unsigned()
                      ? answer["id"].get<unsigned>()
                      : next;
    if (id < first || id >= next)
      return llvm::createStringError("-workers: dlc.fleet says '" + *line +
                                     "'");
    --left;
    if (answer.contains("error")) {
      problems = answer["error"].dump();
      continue;
    }
    Expected<Measurement> m = parseMeasurement(answer["result"].dump());
    if (!m)
      return m.takeError();
    if (Error error = done(id - first, *m))
      return error;
  }
  return problems.empty()
             ? Error::success()
             : llvm::createStringError("-workers: not measured: " + problems);
}
