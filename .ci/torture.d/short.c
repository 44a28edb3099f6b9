/* Writes that take less than they were given, as the kernel may: loaded before libc by short.py. Every
 * second write of more than a byte is cut, in turns to half and to one byte. What is said to be written
 * is written. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/types.h>

static atomic_uint calls;

static size_t cut(size_t bytes)
{
    unsigned call = atomic_fetch_add(&calls, 1);
    if (bytes < 2 || call % 2 == 0)
        return bytes;
    return call % 4 == 1 ? bytes / 2 : 1;
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");
    return real(file, from, cut(bytes), at);
}

ssize_t write(int file, const void *from, size_t bytes)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    /* An event counter takes its eight bytes or none. */
    return real(file, from, bytes == 8 ? bytes : cut(bytes));
}
