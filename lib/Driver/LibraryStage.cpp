// -emit=kernel-library: a manifest's operations, each instance compiled as a
// small model of its own, joined to one library. Instances are independent, so
// they are what is done at the same time; nothing of a compilation is kept but
// its objects.
#include "Compilation.h"
#include "LibraryInstance.h"
#include "LibraryModel.h"

#include "dlc/Driver/RunModel.h"
#include "dlc/Library/Emit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Threading.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include "llvm/ADT/MapVector.h"

#include <atomic>
#include <deque>
#include <mutex>
#include <thread>
#include <unistd.h>

using namespace dlc;
using namespace dlc::library;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::SmallString;
using llvm::SmallVector;
using llvm::StringRef;

namespace {
class Stage {
public:
  Stage(const CompileOptions &options, Progress &progress)
      : options(options), progress(progress) {}
  /// Reads what is asked for; no file is written, no code is made.
  Error prepare();
  Error run(CompileResult &result);
  std::string summary;

private:
  Error readInput();
  Error readManifestFile(StringRef name);
  Error readModel();
  bool isManifest() const {
    return options.input == "-" || StringRef(options.input).ends_with(".json");
  }
  Error chooseCpus();
  Error chooseDevices(ArrayRef<std::string> wanted);
  Error chooseFolder();
  Error compileAll();
  void applyBudget();
  Error write(CompileResult &result);

  const CompileOptions &options;
  Progress &progress;
  Build build;
  std::vector<std::string> targets; // a CPU or a kind of device each
  std::vector<CpuTarget> cpus;      // none for devices
  std::vector<InstanceJob> jobs;
  std::string folder;
  unsigned numDropped = 0;
  std::vector<std::string> leftOut; // kernels of a model
  std::mutex importing;
};
} // namespace

Error Stage::readInput() {
  std::string name = options.name;
  if (name.empty())
    name = toIdentifier(options.input == "-"
                            ? "library"
                            : llvm::sys::path::stem(options.input));
  else if (toIdentifier(name) != name)
    return makeError(ExitCode::Usage, "-name=" + name +
                                          ": is not a C identifier; '" +
                                          toIdentifier(name) + "' is");
  build.library.name = name;
  build.version = getVersion().str();
  // Anything else is a model, whose kernels are the operations; it is compiled
  // when the CPUs are known.
  return isManifest() ? readManifestFile(name) : Error::success();
}

Error Stage::readManifestFile(StringRef name) {
  auto buffer = llvm::MemoryBuffer::getFileOrSTDIN(options.input);
  if (!buffer)
    return makeError(ExitCode::Io, buffer.getError().message(), options.input);
  Expected<Library> library = readManifest((*buffer)->getBuffer(), name);
  if (!library) {
    std::vector<dlc::Diagnostic> problems;
    llvm::handleAllErrors(library.takeError(), [&](const ManifestError &error) {
      for (const ManifestProblem &problem : error.getProblems()) {
        dlc::Diagnostic &diagnostic = problems.emplace_back();
        diagnostic.file = options.input;
        diagnostic.node = problem.path;
        diagnostic.reason = problem.reason;
        diagnostic.kind = "malformed";
      }
    });
    return llvm::make_error<CompileError>(ExitCode::Rejected,
                                          std::move(problems));
  }
  build.library = std::move(*library);
  if (!options.name.empty())
    build.library.name = options.name;
  return Error::success();
}

Error Stage::readModel() {
  Expected<Library> library =
      exportKernels(options, targets.front(), build.library.name, leftOut);
  if (!library)
    return library.takeError();
  build.library = std::move(*library);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// CPUs
//===----------------------------------------------------------------------===//

// "x86:features=avx2,fma,arm": a comma also parts features.
static std::vector<std::string> splitTargets(StringRef text) {
  std::vector<std::string> targets;
  SmallVector<StringRef> parts;
  text.split(parts, ',');
  for (StringRef part : parts) {
    StringRef arch = part.split(':').first;
    bool isNew = isCpuArch(arch) || arch == "cuda" || arch == "riscv" ||
                 arch == "interp";
    if (isNew || targets.empty())
      targets.push_back(part.str());
    else
      targets.back() += "," + part.str();
  }
  return targets;
}

// Libraries for CUDA: what runs on the host is for any CPU of this machine's
// kind, or of the kind that the first target names.
Error Stage::chooseDevices(ArrayRef<std::string> wanted) {
  build.onDevice = true;
  for (const std::string &text : wanted) {
    Expected<CudaTarget> target = parseCudaTarget(text);
    if (!target)
      return llvm::make_error<CompileError>(
          toCompileError(target.takeError(), ExitCode::Usage));
    bool isArm = llvm::Triple(llvm::sys::getProcessTriple()).isAArch64();
    StringRef here = isArm ? "arm:cpu=generic" : "x86:cpu=x86-64";
    Expected<CpuTarget> host =
        parseCpuTarget(target->host.empty() ? here : StringRef(target->host));
    if (!host)
      return llvm::make_error<CompileError>(
          toCompileError(host.takeError(), ExitCode::Usage));
    if (targets.empty())
      build.triple = host->desc().triple;
    else if (host->desc().triple != build.triple)
      return makeError(ExitCode::Usage, "-target=" + options.target +
                                            ": the hosts are of two kinds");
    if (llvm::is_contained(targets, text))
      continue;
    targets.push_back(text);
    build.cpus.push_back({target->desc().sm, ""});
  }
  return Error::success();
}

Error Stage::chooseCpus() {
  std::vector<std::string> wanted = splitTargets(options.target);
  if (llvm::any_of(wanted,
                   [](StringRef target) { return target.starts_with("cuda"); }))
    return chooseDevices(wanted);
  bool isBare = wanted.size() == 1 && !StringRef(wanted[0]).contains(':');
  // A library meets other machines than this one: bare x86 is this machine and
  // one that all of the last ten years are.
  if (isBare && !build.library.cpus.empty()) {
    wanted.clear();
    for (const std::string &cpu : build.library.cpus)
      wanted.push_back(
          options.target == "host" ? cpu : options.target + ":cpu=" + cpu);
    if (options.target == "host")
      for (std::string &cpu : wanted)
        cpu = (llvm::Triple(llvm::sys::getProcessTriple()).isAArch64()
                   ? "arm:cpu="
                   : "x86:cpu=") +
              cpu;
  }
  SmallVector<std::string> more;
  for (const std::string &target : wanted) {
    if (!isCpuArch(StringRef(target).split(':').first))
      return makeError(ExitCode::Usage,
                       "-emit=kernel-library -target=" + target +
                           ": libraries are for x86, arm, host or cuda");
    Expected<CpuTarget> cpu = parseCpuTarget(target);
    if (!cpu)
      return llvm::make_error<CompileError>(
          toCompileError(cpu.takeError(), ExitCode::Usage));
    bool isX86 = llvm::Triple(cpu->desc().triple).isX86();
    targets.push_back(target);
    cpus.push_back(std::move(*cpu));
    if (isBare && build.library.cpus.empty() && isX86) {
      targets.push_back("x86:cpu=x86-64-v3");
      cpus.push_back(*parseCpuTarget(targets.back()));
    }
  }
  build.triple = cpus.front().desc().triple;
  std::vector<std::string> keptTargets;
  std::vector<CpuTarget> kept;
  for (auto [target, cpu] : llvm::zip_equal(targets, cpus)) {
    if (cpu.desc().triple != build.triple)
      return makeError(ExitCode::Usage,
                       "-target=" + options.target +
                           ": one library is for CPUs of one kind; give each "
                           "kind a folder of its own");
    auto machine = cpu.createMachine();
    if (!machine)
      return machine.takeError();
    Cpu entry{cpu.desc().name == "host" ? cpu.desc().cpu : cpu.desc().name,
              requiredFeatures(*(*machine)->getMCSubtargetInfo(),
                               /*usesTiles=*/true)};
    if (llvm::any_of(build.cpus, [&](const Cpu &other) {
          return other.features == entry.features;
        }))
      continue;
    build.cpus.push_back(entry);
    keptTargets.push_back(target);
    kept.push_back(cpu);
  }
  targets = std::move(keptTargets);
  cpus = std::move(kept);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Code
//===----------------------------------------------------------------------===//

Error Stage::compileAll() {
  initializeCpuBackends();
  for (auto [i, op] : llvm::enumerate(build.library.operations))
    for (unsigned cpu = 0; cpu < targets.size(); ++cpu)
      for (unsigned instance = 0; instance < op.instances.size(); ++instance) {
        InstanceJob &job = jobs.emplace_back();
        job.op = i;
        job.instance = instance;
        job.cpu = cpu;
        job.prefix = build.library.name + "_" + op.name + "_c" +
                     std::to_string(cpu) + "_i" + std::to_string(instance);
      }
  unsigned workers = options.jobs
                         ? options.jobs
                         : llvm::hardware_concurrency().compute_thread_count();
  // Measuring wants the machine for itself.
  if (options.tune == CompileOptions::Tune::Search)
    workers = 1;
  workers = std::max<size_t>(1, std::min<size_t>(workers, jobs.size()));
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  auto work = [&] {
    for (size_t i = next++; i < jobs.size() && !failed; i = next++) {
      compileInstance(options, build, targets[jobs[i].cpu], jobs[i]);
      if (jobs[i].error)
        failed = true;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < workers; ++i)
    threads.emplace_back(work);
  work();
  for (std::thread &thread : threads)
    thread.join();
  for (InstanceJob &job : jobs)
    if (job.error)
      return llvm::make_error<CompileError>(std::move(*job.error));
  return Error::success();
}

// Drops special instances until the rest fits: first those that save the least
// time for their bytes, by the cost model. The general ones stay.
void Stage::applyBudget() {
  int64_t budget = build.library.budgetBytes, total = 0;
  for (const InstanceJob &job : jobs)
    total += job.compiled.bytes;
  std::vector<size_t> special;
  for (auto [i, job] : llvm::enumerate(jobs)) {
    const library::Operation &op = build.library.operations[job.op];
    bool hasGeneral = llvm::any_of(
        op.instances, [](const Instance &other) { return other.isGeneral; });
    if (hasGeneral && !op.instances[job.instance].isGeneral)
      special.push_back(i);
  }
  auto worth = [&](size_t i) {
    return jobs[i].rooflineSeconds /
           static_cast<double>(std::max<int64_t>(1, jobs[i].compiled.bytes));
  };
  llvm::sort(special, [&](size_t a, size_t b) {
    return std::pair(worth(a), a) < std::pair(worth(b), b);
  });
  llvm::DenseSet<size_t> dropped;
  for (size_t i : special) {
    if (!budget || total <= budget)
      break;
    total -= jobs[i].compiled.bytes;
    dropped.insert(i);
  }
  numDropped = dropped.size();
  build.instances.resize(build.library.operations.size());
  std::vector<InstanceJob> kept;
  for (auto [i, job] : llvm::enumerate(jobs))
    if (!dropped.contains(i)) {
      build.instances[job.op].push_back(job.compiled);
      kept.push_back(std::move(job));
    }
  jobs = std::move(kept);
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

// The folder must not hold files of another library, which would stay.
Error Stage::chooseFolder() {
  folder = options.output.empty() ? build.library.name : options.output;
  const std::string &name = build.library.name;
  auto check = [&](StringRef below, ArrayRef<std::string> own) -> Error {
    SmallString<128> path(folder);
    llvm::sys::path::append(path, below);
    std::error_code code;
    for (llvm::sys::fs::directory_iterator it(path, code), end;
         it != end && !code; it.increment(code)) {
      StringRef file = llvm::sys::path::filename(it->path());
      StringRef extension = llvm::sys::path::extension(file);
      if ((extension == ".a" || extension == ".so" || extension == ".h") &&
          !llvm::is_contained(own, file))
        return makeError(ExitCode::Io,
                         "holds files of something else (" + file +
                             "); choose another folder, or empty it",
                         path);
    }
    return Error::success();
  };
  if (llvm::sys::fs::exists(folder) && !llvm::sys::fs::is_directory(folder))
    return makeError(ExitCode::Io, "is a file, not a folder", folder);
  if (Error error = check("lib", {"lib" + name + ".a", "lib" + name + ".so"}))
    return error;
  return check("include", {name + ".h"});
}

static Expected<SmallVector<char, 0>>
emitModule(const CpuTarget &target, StringRef name,
           llvm::function_ref<void(llvm::Module &)> fill) {
  llvm::LLVMContext context;
  llvm::Module module(name, context);
  module.setTargetTriple(llvm::Triple(target.desc().triple));
  auto machine = target.createMachine();
  if (!machine)
    return machine.takeError();
  module.setDataLayout((*machine)->createDataLayout());
  fill(module);
  return target.emitObject(module, **machine);
}

Error Stage::write(CompileResult &result) {
  // What all CPUs run is compiled for any of them.
  bool isX86 = llvm::Triple(build.triple).isX86();
  Expected<CpuTarget> base =
      parseCpuTarget(isX86 ? "x86:cpu=x86-64" : "arm:cpu=generic");
  if (!base)
    return base.takeError();
  std::vector<SmallVector<char, 0>> shared;
  auto add = [&](StringRef name,
                 llvm::function_ref<void(llvm::Module &)> fill) -> Error {
    auto object = emitModule(*base, name, fill);
    if (!object)
      return object.takeError();
    shared.push_back(std::move(*object));
    return Error::success();
  };
  if (Error error = add("base", [&](llvm::Module &m) { emitBase(m, build); }))
    return error;
  if (Error error = add("index", [&](llvm::Module &m) { emitIndex(m, build); }))
    return error;
  for (unsigned i = 0; i < build.library.operations.size(); ++i)
    if (Error error = add(build.library.operations[i].name,
                          [&](llvm::Module &m) { emitOperation(m, build, i); }))
      return error;

  LinkInputs inputs;
  inputs.triple = llvm::Triple(build.triple);
  inputs.name = build.library.name;
  inputs.exports = getFunctions(build);
  inputs.opensDriver = build.onDevice;
  auto addObject = [&](const SmallVector<char, 0> &object) {
    inputs.objects.push_back(llvm::MemoryBufferRef(
        StringRef(object.data(), object.size()), "object"));
  };
  for (const auto &object : shared)
    addObject(object);
  for (const InstanceJob &job : jobs)
    for (const auto &object : job.objects)
      addObject(object);
  Expected<std::string> archive = findRuntimeArchive(inputs.triple);
  if (!archive)
    return llvm::make_error<CompileError>(
        toCompileError(archive.takeError(), ExitCode::Unavailable));
  inputs.runtimeArchive = *archive;

  auto place = [&](StringRef below) -> Expected<std::string> {
    SmallString<128> path(folder);
    llvm::sys::path::append(path, below);
    StringRef parent = llvm::sys::path::parent_path(path);
    // For everybody, as far as the user's mask allows: it is to be installed.
    if (std::error_code code = llvm::sys::fs::create_directories(
            parent, /*IgnoreExisting=*/true, llvm::sys::fs::all_all))
      return makeError(ExitCode::Io, code.message(), parent);
    return path.str().str();
  };
  OutputSet outputs;
  Expected<std::string> path = place("lib/lib" + build.library.name + ".a");
  if (!path)
    return path.takeError();
  if (Error error = writeStaticArchive(outputs, inputs, *path))
    return error;
  path = place("lib/lib" + build.library.name + ".so");
  if (!path)
    return path.takeError();
  if (Error error = writeSharedLibrary(outputs, inputs, *path))
    return error;
  for (const OutputFile &file : makeFiles(build)) {
    path = place(file.path);
    if (!path)
      return path.takeError();
    if (Error error = outputs.write(*path, file.text))
      return error;
  }
  result.products.push_back({EmitKind::KernelLibrary, folder});
  return outputs.commit();
}

Error Stage::prepare() {
  progress.begin("manifest");
  if (Error error = readInput())
    return error;
  if (Error error = chooseCpus())
    return error;
  if (Error error = chooseFolder())
    return error;
  if (!isManifest())
    if (Error error = readModel())
      return error;
  size_t operations = build.library.operations.size();
  progress.end(std::to_string(operations) + " operations, " +
               std::to_string(targets.size()) +
               (build.onDevice ? " GPU" : " CPU") +
               (targets.size() == 1 ? "" : "s"));
  return Error::success();
}

Error Stage::run(CompileResult &result) {
  size_t operations = build.library.operations.size();
  progress.begin("instances");
  if (Error error = compileAll())
    return error;
  applyBudget();
  int64_t bytes = 0;
  for (const InstanceJob &job : jobs)
    bytes += job.compiled.bytes;
  std::string note = std::to_string(jobs.size()) + " instances";
  if (!leftOut.empty())
    note += ", " + std::to_string(leftOut.size()) + " kernels left out";
  if (options.tune != CompileOptions::Tune::Off) {
    unsigned kernels = 0, tuned = 0;
    for (const InstanceJob &job : jobs) {
      kernels += job.kernels;
      tuned += job.tuned;
    }
    note += ", " + std::to_string(tuned) + " of " + std::to_string(kernels) +
            " kernels of known sizes tuned";
  }
  if (numDropped)
    note += ", " + std::to_string(numDropped) + " dropped for the budget";
  if (build.library.budgetBytes && bytes > build.library.budgetBytes) {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format(
        "the general instances alone have %.1f MB, more than the budget; "
        "remove operations, element types or CPUs",
        bytes / 1e6);
    dlc::Diagnostic diagnostic;
    diagnostic.file = options.input;
    diagnostic.node = "$.budget";
    diagnostic.reason = text;
    return llvm::make_error<CompileError>(
        ExitCode::Rejected, std::vector<dlc::Diagnostic>{diagnostic});
  }
  progress.end(note);
  if (!options.quiet)
    for (const std::string &text : leftOut)
      llvm::errs() << "dlc: left out: " << text << "\n";
  progress.begin("library");
  if (Error error = write(result))
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Io));
  progress.end();
  llvm::raw_string_ostream(summary)
      << "dlc: " << folder << ": " << operations << " operations, " << note
      << llvm::format(", %.1f MB of code, %.2f s", bytes / 1e6,
                      progress.getSeconds());
  return Error::success();
}

// Targets by kind, in the order of their first: a library is for CUDA or for
// CPUs of one architecture.
static llvm::MapVector<StringRef, std::vector<std::string>>
splitByKind(const std::vector<std::string> &targets) {
  bool isArm = llvm::Triple(llvm::sys::getProcessTriple()).isAArch64();
  llvm::MapVector<StringRef, std::vector<std::string>> kinds;
  for (const std::string &target : targets) {
    StringRef arch = StringRef(target).split(':').first;
    if (arch == "host")
      arch = isArm ? "arm" : "x86";
    StringRef known[] = {"x86", "arm", "cuda"};
    auto it = llvm::find(known, arch);
    kinds[it == std::end(known) ? "" : *it].push_back(target);
  }
  return kinds;
}

Expected<CompileResult> dlc::compileLibrary(const CompileOptions &options) {
  using Color = CompileOptions::Color;
  bool redraw = options.color == Color::Always ||
                (options.color == Color::Auto &&
                 llvm::sys::Process::StandardErrIsDisplayed());
  Progress progress(options.quiet, redraw);
  // Several kinds are a library each, in folders of their names.
  auto kinds = splitByKind(splitTargets(options.target));
  std::deque<CompileOptions> parts;
  for (const auto &[kind, targets] : kinds) {
    CompileOptions &part = parts.emplace_back(options);
    if (kinds.size() == 1)
      continue;
    part.target = llvm::join(targets, ",");
    SmallString<128> folder(options.output);
    if (folder.empty())
      folder = !options.name.empty() ? StringRef(options.name)
                                     : llvm::sys::path::stem(options.input);
    llvm::sys::path::append(folder, kind);
    part.output = folder.str().str();
  }
  progress.setNumStages(3 * parts.size());
  std::deque<Stage> stages;
  CompileResult result;
  auto fail = [](Error error) {
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Internal));
  };
  for (const CompileOptions &part : parts)
    if (Error error = stages.emplace_back(part, progress).prepare())
      return fail(std::move(error));
  for (Stage &stage : stages) {
    if (Error error = stage.run(result))
      return fail(std::move(error));
    progress.summary(stage.summary);
  }
  return result;
}
