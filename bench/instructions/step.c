/*
 * step OUT MOST COMMAND…: runs COMMAND and steps through parts of its first thread, one machine instruction after the other.
 *
 * COMMAND writes a byte to descriptor 3 and reads one from descriptor 4 where a part begins, and the same where it ends. OUT gets the
 * addresses of its instructions, eight bytes each; standard output a line for each part: how many they were. After MOST instructions
 * a part is given up, with status 3. The ends are looked for every 64 instructions, so that a part may be so much longer.
 */
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOM = 1 << 16, LOOK = 64 };

static uint64_t addresses[ROOM];

static void child(char **command, const int *mark, const int *go) {
  dup2(mark[1], 100);
  dup2(go[0], 101);
  dup2(100, 3);
  dup2(101, 4);
  for (int fd = 5; fd < 110; fd++) close(fd);
  execvp(command[0], command);
  _exit(127);
}

/* One instruction; a signal that comes in between is the process's own and goes on to it. */
static int step(pid_t pid) {
  int signal = 0, status;
  for (;;) {
    if (ptrace(PTRACE_SINGLESTEP, pid, 0, signal) || waitpid(pid, &status, __WALL) < 0 || !WIFSTOPPED(status)) return 0;
    signal = WSTOPSIG(status);
    if (signal == SIGTRAP) return 1;
  }
}

/* Instructions of a part, -1 if the process ended in it. */
static long part(pid_t pid, FILE *out, int mark, long most) {
  struct pollfd end = {mark, POLLIN, 0};
  size_t n = 0;
  long steps = 0;
  while (steps < most && (steps % LOOK != 0 || poll(&end, 1, 0) == 0)) {
    if (!step(pid)) return -1;
    addresses[n++] = (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), 0);
    steps++;
    if (n == ROOM) fwrite(addresses, sizeof *addresses, n, out), n = 0;
  }
  fwrite(addresses, sizeof *addresses, n, out);
  return steps;
}

int main(int argc, char **argv) {
  int mark[2], go[2], status;
  char byte;
  if (argc < 4 || pipe(mark) || pipe(go)) {
    fprintf(stderr, "usage: step OUT MOST COMMAND...\n");
    return 2;
  }
  FILE *out = fopen(argv[1], "wb");
  if (!out) {
    perror(argv[1]);
    return 2;
  }
  const long most = atol(argv[2]);
  const pid_t pid = fork();
  if (pid == 0) child(argv + 3, mark, go);
  close(mark[1]);
  close(go[0]);
  while (read(mark[0], &byte, 1) == 1) {
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) || waitpid(pid, &status, __WALL) < 0) {
      perror("ptrace");
      kill(pid, SIGKILL);
      return 2;
    }
    if (write(go[1], "g", 1) != 1) return 2;
    const long steps = part(pid, out, mark[0], most);
    if (steps < 0 || steps >= most) {
      kill(pid, SIGKILL);
      return 3;
    }
    printf("%ld\n", steps);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    if (read(mark[0], &byte, 1) != 1 || write(go[1], "g", 1) != 1) return 2;
  }
  fclose(out);
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
