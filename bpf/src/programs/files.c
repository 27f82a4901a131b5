/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "file": files that recorded processes open, close and change. Reads and writes are summed here, and told at the
 * close. Of a file that was opened, the path is the kernel's own, links resolved; of a call that failed or that names what
 * is gone, it is what the program said, with the folder that it meant.
 */
#include "paths.h"
#include "descriptor.h"

#define AT_FDCWD -100
#define AT_REMOVEDIR 0x200
#define RESOLVE_IN_ROOT 0x10
#define FLAGS_OF_CREAT 01101 /* O_CREAT, O_WRONLY, O_TRUNC: creat has no flags */

/* An open file (open file description) of a regular file. */
struct open_file {
	u64 id;
	u64 inode;
	u64 read;
	u64 written;
	/* How often it was mapped: each mapping holds on to the file when its descriptors are gone. */
	u64 mapped;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64); /* struct file */
	__type(value, struct open_file);
} open_files SEC(".maps");

/* Four paths, and room for the verifier, which sees only that an offset is below FILE_LIMIT. */
#define FILE_LIMIT (4 * PATH_LEN)

struct file_scratch {
	struct asc_file file;
	u8 data[FILE_LIMIT + PATH_LEN];
	u8 name[PATH_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct file_scratch);
} file_scratch SEC(".maps");

static __always_inline struct file_scratch *new_file_record(u16 op, s64 result)
{
	u32 zero = 0;
	struct file_scratch *scratch = bpf_map_lookup_elem(&file_scratch, &zero);

	if (scratch) {
		__builtin_memset(&scratch->file, 0, sizeof(scratch->file));
		scratch->file.op = op;
		scratch->file.result = result;
	}
	return scratch;
}

static __always_inline void emit_file(struct file_scratch *scratch, u32 data_len, u16 flags)
{
	u32 len = sizeof(scratch->file) + data_len, seq = draw_seq();

	fill_header(&scratch->file.header, ASC_FILE, flags, len, seq);
	if (len > sizeof(scratch->file) + FILE_LIMIT)
		len = sizeof(scratch->file) + FILE_LIMIT;
	if (bpf_ringbuf_output(&ring, &scratch->file, len, wake_flags()))
		count_drop(ASC_SOURCE_FILE, ASC_RING_FULL, 0);
}

static __always_inline void fill_inode(struct asc_file *record, struct file *file)
{
	struct inode *inode = READ(file, f_inode);

	record->inode = READ(inode, i_ino);
	record->device = READ(inode, i_sb, s_dev);
}

/* Tells of an open file with the kernel's own path of it. */
static __always_inline void emit_opened(struct file *file, u64 id, s64 fd, u32 flags, u32 mode)
{
	struct task_struct *task = UNTRUSTED(bpf_get_current_task_btf());
	struct file_scratch *scratch = new_file_record(ASC_OPEN, fd);
	u32 zero = 0;
	struct paths *walk = bpf_map_lookup_elem(&paths, &zero);

	if (!scratch || !walk)
		return;
	scratch->file.file_id = id;
	scratch->file.flags = flags;
	scratch->file.mode = mode;
	fill_inode(&scratch->file, file);
	scratch->file.path_len = append_path(walk, scratch->data, 0, FILE_LIMIT, &file->f_path, &task->fs->root);
	emit_file(scratch, scratch->file.path_len, 0);
}

/* What is known of a regular file that is open. Another file may have had its address: then nothing is. */
static __always_inline struct open_file *open_file_of(struct file *file)
{
	u64 key = (u64)file;
	struct open_file *open = bpf_map_lookup_elem(&open_files, &key);

	return open && open->inode == READ(file, f_inode, i_ino) ? open : NULL;
}

static __always_inline struct open_file *add_open_file(struct file *file, u64 inode)
{
	u64 key = (u64)file;
	struct open_file fresh = { .id = unique_id(), .inode = inode };

	bpf_map_update_elem(&open_files, &key, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&open_files, &key);
}

static __always_inline void opened(struct file *file, s64 fd, u32 flags, u32 mode)
{
	struct open_file *open = NULL;

	if (type_of(file) == S_IFREG)
		open = add_open_file(file, READ(file, f_inode, i_ino));
	emit_opened(file, open ? open->id : 0, fd, flags, mode);
}

/* Bytes went through a regular file. One that was open before recording is told of at its first use. */
static __always_inline void file_io(struct file *file, u32 fd, u16 direction, u64 len)
{
	struct open_file *open = open_file_of(file);

	if (!open) {
		open = add_open_file(file, READ(file, f_inode, i_ino));
		if (!open) {
			count_drop(ASC_SOURCE_FILE, ASC_TABLE_FULL, len);
			return;
		}
		emit_opened(file, open->id, fd, READ(file, f_flags), 0);
	}
	__sync_fetch_and_add(direction == ASC_SENT ? &open->written : &open->read, len);
}

/* How many mappings hold on to a file, about. */
static __always_inline u64 mappings(struct file *file)
{
	struct open_file *open = open_file_of(file);

	return open ? open->mapped : 0;
}

/* The last descriptor of a regular file goes. */
static __always_inline void file_closed(struct file *file, u32 fd)
{
	u64 key = (u64)file;
	struct open_file *open = open_file_of(file);
	struct file_scratch *scratch;

	if (!open)
		return;
	scratch = new_file_record(ASC_CLOSE, fd);
	if (!scratch)
		return;
	scratch->file.file_id = open->id;
	scratch->file.bytes_read = open->read;
	scratch->file.bytes_written = open->written;
	fill_inode(&scratch->file, file);
	emit_file(scratch, 0, 0);
	bpf_map_delete_elem(&open_files, &key);
}

/* Cookies: operation | shape << 8 | argument of flags << 16 | argument of mode << 20 (both from 1). */
enum file_shape {
	SHAPE_PATH = 0,      /* (path) */
	SHAPE_AT = 1,        /* (folder, path) */
	SHAPE_DESCRIPTOR = 2, /* (descriptor) */
	SHAPE_PATHS = 3,     /* (path, path) */
	SHAPE_AT_AT = 4,     /* (folder, path, folder, path) */
	SHAPE_PATH_AT = 5,   /* (path, folder, path) */
	SHAPE_OPEN_HOW = 6,  /* (folder, path, struct open_how) */
};

static __always_inline u64 numbered(const struct arguments *arguments, u32 number)
{
	switch (number) {
	case 1:
		return arguments->at[0];
	case 2:
		return arguments->at[1];
	case 3:
		return arguments->at[2];
	case 4:
		return arguments->at[3];
	case 5:
		return arguments->at[4];
	default:
		return 0;
	}
}

/*
 * Appends a path that the program named, and before it the folder it is relative to; to which also one is that begins with a
 * slash, if that folder is the root (openat2). Returns the end.
 */
static __always_inline u32 append_named(struct file_scratch *scratch, u32 at, s32 folder, u64 name, u16 *base_len, u16 *path_len,
					bool *fault, bool in_root)
{
	struct task_struct *task = UNTRUSTED(bpf_get_current_task_btf());
	u32 zero = 0, len;
	struct paths *walk = bpf_map_lookup_elem(&paths, &zero);
	long got = read_user_text(scratch->name, sizeof(scratch->name), (void *)name);

	*base_len = 0;
	*path_len = 0;
	if (got < 0 || !walk) {
		*fault = true;
		return at;
	}
	in_root = in_root && scratch->name[0] == '/';
	if (in_root || scratch->name[0] != '/') {
		struct path *base = NULL;

		if (folder == AT_FDCWD) {
			base = &task->fs->pwd;
		} else {
			struct file *file = file_of(folder);

			if (file)
				base = &file->f_path;
		}
		if (base) {
			*base_len = append_path(walk, scratch->data, at, FILE_LIMIT, base, &task->fs->root);
			at += *base_len;
		}
	}
	len = got;
	if (in_root) {
		/* A dot before it makes it relative. */
		scratch->data[at & (FILE_LIMIT - 1)] = '.';
		*path_len = 1 + append(scratch->data, at + 1, FILE_LIMIT, scratch->name, len & (PATH_LEN - 1));
	} else {
		*path_len = append(scratch->data, at, FILE_LIMIT, scratch->name, len & (PATH_LEN - 1));
	}
	return at + *path_len;
}

static __always_inline void on_descriptor(struct file_scratch *scratch, u32 fd)
{
	struct task_struct *task = UNTRUSTED(bpf_get_current_task_btf());
	struct file *file = file_of(fd);
	u32 zero = 0;
	struct paths *walk = bpf_map_lookup_elem(&paths, &zero);

	if (file && walk) {
		fill_inode(&scratch->file, file);
		scratch->file.path_len = append_path(walk, scratch->data, 0, FILE_LIMIT, &file->f_path, &task->fs->root);
	}
	emit_file(scratch, scratch->file.path_len, 0);
}

SEC("tracepoint")
int on_file(struct syscall_exit *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx), path, new_path = 0;
	u32 shape = cookie >> 8 & 0xff, at, flags, mode;
	u16 op = cookie & 0xff;
	s32 folder = AT_FDCWD, new_folder = AT_FDCWD;
	struct arguments arguments;
	struct file_scratch *scratch;
	bool fault = false, in_root = false;
	long result;

	if (!want_file || !target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	result = result_of(ctx);
	read_arguments(&arguments);
	flags = numbered(&arguments, cookie >> 16 & 0xf);
	mode = numbered(&arguments, cookie >> 20 & 0xf);
	if (shape == SHAPE_OPEN_HOW) {
		u64 how[3] = {};

		bpf_probe_read_user(how, sizeof(how), (void *)arguments.at[2]);
		flags = how[0];
		mode = how[1];
		in_root = how[2] & RESOLVE_IN_ROOT;
	} else if (op == ASC_OPEN && shape == SHAPE_PATH && !(cookie >> 16 & 0xf)) {
		flags = FLAGS_OF_CREAT;
	}
	if (op == ASC_OPEN && result >= 0) {
		struct file *file = file_of(result);

		if (file)
			opened(file, result, flags, mode);
		return 0;
	}
	if (op == ASC_UNLINK && flags & AT_REMOVEDIR)
		op = ASC_RMDIR;
	scratch = new_file_record(op, result);
	if (!scratch)
		return 0;
	scratch->file.flags = flags;
	scratch->file.mode = mode;
	if (op == ASC_TRUNCATE)
		scratch->file.bytes_read = arguments.at[1];
	if (shape == SHAPE_DESCRIPTOR) {
		on_descriptor(scratch, arguments.at[0]);
		return 0;
	}
	path = arguments.at[0];
	if (shape == SHAPE_AT || shape == SHAPE_AT_AT || shape == SHAPE_OPEN_HOW) {
		folder = arguments.at[0];
		path = arguments.at[1];
	}
	if (shape == SHAPE_PATHS) {
		new_path = arguments.at[1];
	} else if (shape == SHAPE_AT_AT) {
		new_folder = arguments.at[2];
		new_path = arguments.at[3];
	} else if (shape == SHAPE_PATH_AT) {
		new_folder = arguments.at[1];
		new_path = arguments.at[2];
	}
	if (op == ASC_SYMLINK) {
		/* What a link says is text, and relative to the link. */
		long got = read_user_text(scratch->data, PATH_LEN, (void *)path);

		at = got > 0 ? got & (PATH_LEN - 1) : 0;
		scratch->file.path_len = at;
		fault = got < 0;
	} else {
		at = append_named(scratch, 0, folder, path, &scratch->file.base_len, &scratch->file.path_len, &fault,
				  in_root);
	}
	if (new_path)
		at = append_named(scratch, at, new_folder, new_path, &scratch->file.new_base_len, &scratch->file.new_path_len,
				  &fault, false);
	emit_file(scratch, at, fault ? ASC_FAULT : 0);
	return 0;
}

static __always_inline void note_mapped(struct file *file)
{
	struct open_file *open = open_file_of(file);

	if (open)
		__sync_fetch_and_add(&open->mapped, 1);
}

/* A file is mapped. A library, or anything else that is to be executed, may bring TLS with it. */
SEC("tracepoint")
int on_mmap(struct syscall_exit *ctx)
{
	const u64 prot_exec = 4;
	struct task_struct *task;
	struct file_scratch *scratch;
	struct asc_map *map;
	struct arguments arguments;
	struct paths *walk;
	struct file *file;
	u32 zero = 0, seq, len;

	if (ctx->result < 0 && ctx->result > -4096)
		return 0;
	if (!target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	read_arguments(&arguments);
	if ((s32)arguments.at[4] < 0)
		return 0;
	file = file_of(arguments.at[4]);
	if (!file)
		return 0;
	note_mapped(file);
	if (!(arguments.at[2] & prot_exec) || !first_execution(file))
		return 0;
	task = UNTRUSTED(bpf_get_current_task_btf());
	scratch = bpf_map_lookup_elem(&file_scratch, &zero);
	walk = bpf_map_lookup_elem(&paths, &zero);
	if (!scratch || !walk)
		return 0;
	seq = draw_seq();
	map = (void *)scratch->data;
	map->inode = READ(file, f_inode, i_ino);
	map->device = READ(file, f_inode, i_sb, s_dev);
	map->reserved = 0;
	len = append_path(walk, scratch->data, sizeof(*map), FILE_LIMIT, &file->f_path, &task->fs->root);
	map->path_len = len;
	len += sizeof(*map);
	fill_header(&map->header, ASC_MAP, 0, len, seq);
	if (len > sizeof(*map) + PATH_LEN)
		len = sizeof(*map) + PATH_LEN;
	/* The capturer must look at it before it is used: wake it at once. */
	if (bpf_ringbuf_output(&ring, map, len, BPF_RB_FORCE_WAKEUP)) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		forget_execution(file);
	}
	return 0;
}
