// Appends "<file's path> <its size>" to CHAOS_SYNC_LOG after each fdatasync or fsync that has succeeded: LD_PRELOAD.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The size is read before the sync: what is written meanwhile need not be on the disk yet.
static int sync_and_note(int (*real)(int), int file) {
  struct stat before;
  int known = fstat(file, &before) == 0;
  int failed = real(file);
  const char *log = getenv("CHAOS_SYNC_LOG");
  if (failed || !known || !log) return failed;
  char link[64], path[4096], line[4200];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return failed;
  path[length] = 0;
  int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (out < 0) return failed;
  int size = snprintf(line, sizeof line, "%s %lld\n", path, (long long)before.st_size);
  if (write(out, line, size) != size) abort();
  close(out);
  return failed;
}

int fdatasync(int file) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
  return sync_and_note(real, file);
}

int fsync(int file) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fsync");
  return sync_and_note(real, file);
}
