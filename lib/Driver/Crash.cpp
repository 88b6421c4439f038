// The crash handler. Everything it prints is prepared beforehand: in a signal
// handler only write() is safe.
#include "dlc/Driver/Crash.h"

#include "dlc/Driver/Diagnostics.h"
#include "llvm/Support/ErrorHandling.h"

#include <atomic>
#include <csignal>
#include <cstring>
#include <string>
#include <unistd.h>

using namespace dlc;

static std::atomic<const char *> currentStage = "start";
static std::string &getCommand() {
  static std::string command;
  return command;
}

static void say(const char *text) {
  // Nothing can be done when standard error is gone.
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, strlen(text));
}

[[noreturn]] static void endProcess(const char *what) {
  say("\ndlc: internal error: ");
  say(what);
  say(" in stage '");
  say(currentStage.load());
  say("'\n  replay: ");
  say(getCommand().c_str());
  say("\n");
  _exit(static_cast<int>(ExitCode::Internal));
}

static void handleSignal(int number) {
  endProcess(number == SIGSEGV   ? "segmentation fault"
             : number == SIGABRT ? "abort"
             : number == SIGFPE  ? "arithmetic fault"
                                 : "illegal instruction or bus error");
}

static void handleFatalError(void *, const char *reason, bool) {
  say("\n");
  say(reason);
  endProcess("fatal error");
}

void dlc::setCrashStage(const char *name) { currentStage = name; }

void dlc::installCrashHandler(int argc, const char *const *argv) {
  for (int i = 0; i < argc; ++i) {
    llvm::StringRef argument = argv[i];
    bool isPlain =
        argument.find_first_of(" '\"$*?;&|<>()") == llvm::StringRef::npos;
    getCommand() += (i ? " " : "");
    getCommand() += isPlain ? argument.str() : "'" + argument.str() + "'";
  }
  // A stack of its own, so that running out of stack can be reported.
  static char stack[64 << 10];
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action = {};
  action.sa_handler = handleSignal;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND;
  for (int number : {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGBUS})
    sigaction(number, &action, nullptr);
  llvm::install_fatal_error_handler(handleFatalError);
}
