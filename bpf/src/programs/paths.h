/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Paths: bpf_d_path is not to be had in a tracepoint, so the way from a file up to the root is walked here. Used by programs
 * that cannot be interrupted on their CPU.
 */
#ifndef AGENTSIGHT_PATHS_H
#define AGENTSIGHT_PATHS_H

#include "common.h"

#define PATH_LEN 4096
#define NAME_LEN 256
/* Room before the path for one of the marks below. */
#define MARK_LEN 16
#define MAX_COMPONENTS 512
/* Of these, so many are taken together: a call costs time, and a loop costs the verifier some. */
#define STEPS 8

/* The walk from a file up to the root. */
struct walk {
	struct dentry *dentry;
	struct vfsmount *mnt;
	/* Where it ends: the process sees nothing above. */
	struct dentry *root_dentry;
	struct vfsmount *root_mnt;
	/* Where the path starts in paths.path: it is built from its end. */
	u32 at;
	/* How it ends: enum walk_end. */
	u32 end;
};

enum walk_end {
	WALK_CUT = 0,	   /* it does not: the path is too long */
	WALK_ROOT = 1,	   /* at the root of the process */
	WALK_ELSEWHERE = 2, /* at the root of what is mounted in no place that the process sees, if in any */
};

/*
 * The state of the loop is kept here and not on the stack: the verifier then takes what it reads for any number, and does
 * not follow each of a hundred iterations with the numbers of the one before.
 */
struct paths {
	struct walk walk;
	u8 path[PATH_LEN + NAME_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct paths);
} paths SEC(".maps");

/* Puts a name and a slash before what there is of the path. Returns false if there is no room. */
static __always_inline bool prepend(struct paths *paths, struct dentry *dentry)
{
	u32 at = paths->walk.at, len = READ(dentry, d_name.len) & (NAME_LEN - 1);

	if (len + 1 + MARK_LEN > at || at > PATH_LEN)
		return false;
	at -= len;
	bpf_probe_read_kernel(&paths->path[at & (PATH_LEN - 1)], len, READ(dentry, d_name.name));
	at -= 1;
	paths->path[at & (PATH_LEN - 1)] = '/';
	paths->walk.at = at;
	return true;
}

/* One step up. Returns false at the root. */
static __always_inline bool walk_step(struct paths *paths)
{
	struct walk *walk = &paths->walk;
	struct dentry *dentry = walk->dentry, *parent;
	struct vfsmount *mnt = walk->mnt;

	if (dentry == walk->root_dentry && mnt == walk->root_mnt) {
		walk->end = WALK_ROOT;
		return false;
	}
	parent = READ(dentry, d_parent);
	if (dentry == READ(mnt, mnt_root) || dentry == parent) {
		struct mount *mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		struct mount *up = READ(mount, mnt_parent);

		if (mount != up) {
			walk->dentry = READ(mount, mnt_mountpoint);
			walk->mnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
			return true;
		}
		if (dentry == parent) {
			/* A file of no folder, such as a memfd, has a name alone; that of a root is a slash. */
			bool named = walk->at == PATH_LEN && READ(dentry, d_name.len) > 1;

			walk->end = named ? WALK_ROOT : WALK_ELSEWHERE;
			if (named)
				prepend(paths, dentry);
			return false;
		}
		/* A part of a file system, mounted nowhere (open_tree): on to the root of that. */
	}
	if (!prepend(paths, dentry))
		return false;
	walk->dentry = parent;
	return true;
}

/*
 * Some steps up. Returns 1 at the root. A global function, as that below: the verifier looks at them once a program, and not
 * at every way through each step wherever a path is wanted, which took it most of a second.
 */
__noinline int walk_steps(struct paths *paths)
{
	if (!paths)
		return 1;
	for (int i = 0; i < STEPS; i++) {
		if (!walk_step(paths))
			return 1;
		barrier();
	}
	return 0;
}

/* Puts a mark before the path: nobody is to take it for one that is absolute. */
static __always_inline void mark(struct paths *paths, const char *text, const u32 len)
{
	u32 at = paths->walk.at;

	if (at < len || at > PATH_LEN)
		return;
	at -= len;
	__builtin_memcpy(&paths->path[at & (PATH_LEN - 1)], text, len);
	paths->walk.at = at;
}

/* Writes the path into the end of paths->path. */
__noinline int walk_up(struct paths *paths)
{
	if (!paths)
		return 0;
	paths->walk.at = PATH_LEN;
	paths->walk.end = WALK_CUT;
	for (int i = 0; i < MAX_COMPONENTS; i += STEPS)
		if (walk_steps(paths))
			break;
	if (paths->walk.at >= PATH_LEN) {
		paths->walk.at = PATH_LEN - 1;
		paths->path[PATH_LEN - 1] = '/';
	}
	if (paths->walk.end == WALK_CUT)
		mark(paths, "\xe2\x80\xa6", 3); /* … in UTF-8 */
	else if (paths->walk.end == WALK_ELSEWHERE)
		mark(paths, "(unreachable)", 13);
	return 0;
}

/* Appends to `data`, which has room for PATH_LEN bytes behind any `at` below `limit`, a power of 2. Returns the bytes appended. */
static __always_inline u32 append(u8 *data, u32 at, const u32 limit, const void *from, u32 len)
{
	if (len > PATH_LEN)
		len = PATH_LEN;
	if (bpf_probe_read_kernel(&data[at & (limit - 1)], len, from))
		return 0;
	return len;
}

/* Appends the path of a file as the process sees it below its root. */
static __always_inline u32 append_path(struct paths *paths, u8 *data, u32 at, const u32 limit, struct path *path,
				       struct path *root)
{
	u32 start;

	paths->walk.dentry = READ(path, dentry);
	paths->walk.mnt = READ(path, mnt);
	paths->walk.root_dentry = READ(root, dentry);
	paths->walk.root_mnt = READ(root, mnt);
	walk_up(paths);
	start = paths->walk.at;
	return append(data, at, limit, &paths->path[start & (PATH_LEN - 1)], PATH_LEN - start);
}

#endif
