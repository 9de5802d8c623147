/*
 * Preloaded into a server: while the file that PANVEL_FULL_DISK names exists, the disk of its data is
 * full. No file grows, but for the WAL, which is on a disk of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int
is_wal(int fd)
{
	char		link[64];
	char		path[4096];
	ssize_t		length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = '\0';
	return strstr(path, "/pg_wal/") != NULL;
}

static int
has_no_room(int fd, off_t end)
{
	const char *flag = getenv("PANVEL_FULL_DISK");
	struct stat file;

	return flag != NULL && access(flag, F_OK) == 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) &&
		end > file.st_size && !is_wal(fd);
}

#define REFUSE(fd, end) \
	do { \
		int			before = errno; \
		if (has_no_room(fd, end)) { errno = ENOSPC; return -1; } \
		errno = before; \
	} while (0)

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	static ssize_t (*next) (int, const void *, size_t, off_t);

	REFUSE(fd, offset + (off_t) size);
	if (next == NULL)
		next = dlsym(RTLD_NEXT, "pwrite");
	return next(fd, data, size, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite(fd, data, size, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	static ssize_t (*next) (int, const struct iovec *, int, off_t);
	off_t		end = offset;

	for (int i = 0; i < count; i++)
		end += (off_t) parts[i].iov_len;
	REFUSE(fd, end);
	if (next == NULL)
		next = dlsym(RTLD_NEXT, "pwritev");
	return next(fd, parts, count, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
	return pwritev(fd, parts, count, offset);
}
