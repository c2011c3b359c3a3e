// The program at the head of the unified kernel image. It starts the kernel that
// lies in the section .linux of the same image, with the command line in .cmdline,
// and hands it the initramfs in .initrd the way the kernel's EFI stub asks for it:
// by the protocol LoadFile2 on a device path that names the initramfs
// (drivers/firmware/efi/libstub/efi-stub-helper.c). References: UEFI specification
// 2.10; UAPI.5, "Unified Kernel Image".
//
// It is linked to a flat piece of code at address 0 and runs wherever the firmware
// puts it: no writable data, no addresses in data, no library.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef u64 status;

#define EFI __attribute__((ms_abi))
#define FAILED 0x8000000000000000UL // the bit that every error has
#define NOT_FOUND (FAILED | 14)
#define INVALID_PARAMETER (FAILED | 2)
#define BUFFER_TOO_SMALL (FAILED | 5)
#define UNSUPPORTED (FAILED | 3)
#define SECURITY_VIOLATION (FAILED | 26)
#define ACCESS_DENIED (FAILED | 15)

struct guid {
	u32 a;
	u16 b, c;
	u8 d[8];
};

struct text_output {
	void *reset;
	EFI status (*output)(struct text_output *, const u16 *);
};

struct boot_services {
	u8 header[24];
	void *before_pool[5];
	EFI status (*allocate_pool)(u32 type, u64 size, void **out);
	void *before_install[7];
	EFI status (*install_protocol)(void **handle, const struct guid *, u32 type, void *protocol);
	void *reinstall_protocol;
	EFI status (*uninstall_protocol)(void *handle, const struct guid *, void *protocol);
	EFI status (*handle_protocol)(void *handle, const struct guid *, void **out);
	void *before_device_path[3];
	EFI status (*locate_device_path)(const struct guid *, const void **path, void **handle);
	void *install_table;
	EFI status (*load_image)(u8 from_menu, void *parent, const void *path, const void *source, u64 size, void **out);
	EFI status (*start_image)(void *image, u64 *exit_size, u16 **exit_data);
	void *exit;
	EFI status (*unload_image)(void *image);
};

struct system_table {
	u8 header[24];
	u16 *vendor;
	u32 revision;
	void *in_handle, *in, *out_handle;
	struct text_output *out;
	void *err_handle, *err, *runtime;
	struct boot_services *boot;
};

struct loaded_image {
	u32 revision;
	void *parent;
	struct system_table *system;
	void *device, *path, *reserved;
	u32 options_size; // bytes
	void *options;
	u8 *base;
	u64 size;
};

// Device path nodes (UEFI 10.3), packed as they are on the wire.
struct end_path {
	u8 type, subtype;
	u16 length;
} __attribute__((packed));

struct memory_path {
	u8 type, subtype;
	u16 length;
	u32 memory;
	u64 first, last;
	struct end_path end;
} __attribute__((packed));

struct vendor_path {
	u8 type, subtype;
	u16 length;
	struct guid vendor;
	struct end_path end;
} __attribute__((packed));

#define END_PATH {0x7f, 0xff, 4}

static const struct guid loaded_image_guid = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid device_path_guid = {0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid load_file2_guid = {0x4006c0c1, 0xfcb3, 0x403e, {0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d}};

// LINUX_EFI_INITRD_MEDIA_GUID, in a media device path.
static const struct vendor_path initrd_path = {
	4, 3, 20, {0x5568e427, 0x68fc, 0x4f3d, {0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68}}, END_PATH,
};

// A load_file2 protocol and, behind it, what it serves.
struct initrd {
	EFI status (*load)(struct initrd *, const void *path, u8 boot, u64 *size, void *buffer);
	const u8 *data;
	u64 size;
};

struct section {
	const u8 *data;
	u64 size;
};

static void copy(u8 *to, const u8 *from, u64 n) {
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static EFI status load_initrd(struct initrd *i, const void *path, u8 boot, u64 *size, void *buffer) {
	if (!path || !size)
		return INVALID_PARAMETER;
	if (boot) // this protocol is for files, not for boot options
		return UNSUPPORTED;
	u64 room = *size;
	*size = i->size;
	if (!buffer || room < i->size)
		return BUFFER_TOO_SMALL;
	copy(buffer, i->data, i->size);
	return 0;
}

// find looks a section up in the headers that the firmware loaded with the image.
static struct section find(const u8 *base, u64 name) {
	const u8 *pe = base + *(const u32 *)(base + 0x3c);
	const u8 *header = pe + 24 + *(const u16 *)(pe + 20);
	for (u16 n = *(const u16 *)(pe + 6); n > 0; n--, header += 40)
		if (*(const u64 *)header == name)
			return (struct section){base + *(const u32 *)(header + 12), *(const u32 *)(header + 8)};
	return (struct section){0, 0};
}

#define NAME(a, b, c, d, e, f, g, h) \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

// options returns how many characters of the load options are text for the
// kernel, and where they begin: none if there is anything but printable ASCII in
// them, since firmware puts data of its own there. A shell and iPXE put the name
// of the program in front, which is not for the kernel.
static u64 options(const struct loaded_image *image, const u16 **out) {
	const u16 *text = image->options;
	u64 n = text ? image->options_size / 2 : 0;
	u64 end = 0;
	while (end < n && text[end]) {
		if (text[end] < ' ' || text[end] > '~' || end >= 1024)
			return 0;
		end++;
	}
	u64 word = 0;
	while (word < end && text[word] != ' ')
		word++;
	if (word >= 4 && text[word - 4] == '.' && (text[word - 3] | 32) == 'e' && (text[word - 2] | 32) == 'f' && (text[word - 1] | 32) == 'i') {
		text += word;
		end -= word;
	}
	*out = text;
	return end;
}

static void complain(struct system_table *system, const u16 *what, status s) {
	if (!system->out)
		return;
	u16 number[] = {' ', '(', '0', 'x', '0', '0', ')', '\r', '\n', 0};
	number[4] = "0123456789abcdef"[s >> 4 & 15];
	number[5] = "0123456789abcdef"[s & 15];
	system->out->output(system->out, u"InetBoot: ");
	system->out->output(system->out, what);
	system->out->output(system->out, number);
	if (s == SECURITY_VIOLATION || s == ACCESS_DENIED)
		system->out->output(system->out, u"The kernel is not signed: turn off Secure Boot in the firmware's setup.\r\n");
}

static status start(void *self, struct system_table *system, struct loaded_image *image, struct section linux) {
	struct boot_services *boot = system->boot;
	struct memory_path path = {1, 3, 24, 2, (u64)linux.data, (u64)linux.data + linux.size - 1, END_PATH};
	void *kernel = 0;
	status s = boot->load_image(0, self, &path, linux.data, linux.size, &kernel);
	if (s) {
		complain(system, u"the firmware does not load the kernel", s);
		return s;
	}
	struct loaded_image *loaded;
	s = boot->handle_protocol(kernel, &loaded_image_guid, (void **)&loaded);
	if (s) {
		complain(system, u"the firmware says nothing about the kernel that it loaded", s);
		goto unload;
	}
	struct section line = find(image->base, NAME('.', 'c', 'm', 'd', 'l', 'i', 'n', 'e'));
	const u16 *more = 0;
	u64 extra = options(image, &more);
	u16 *text;
	s = boot->allocate_pool(2, 2 * (line.size + extra + 2), (void **)&text);
	if (s) {
		complain(system, u"no memory for the command line", s);
		goto unload;
	}
	u64 n = 0;
	while (n < line.size && line.data[n]) {
		text[n] = line.data[n];
		n++;
	}
	if (extra)
		text[n++] = ' ';
	for (u64 i = 0; i < extra; i++)
		text[n++] = more[i];
	text[n++] = 0;
	loaded->options = text;
	loaded->options_size = 2 * n;
	s = boot->start_image(kernel, 0, 0);
	complain(system, u"the kernel did not start", s);
	return s;
unload:
	boot->unload_image(kernel);
	return s;
}

__attribute__((section(".text.entry"))) EFI status entry(void *self, struct system_table *system) {
	struct boot_services *boot = system->boot;
	struct loaded_image *image;
	status s = boot->handle_protocol(self, &loaded_image_guid, (void **)&image);
	if (s) {
		complain(system, u"the firmware says nothing about this program", s);
		return s;
	}
	struct section linux = find(image->base, NAME('.', 'l', 'i', 'n', 'u', 'x', 0, 0));
	struct section data = find(image->base, NAME('.', 'i', 'n', 'i', 't', 'r', 'd', 0));
	if (!linux.size || !data.size) {
		complain(system, u"this program is incomplete", NOT_FOUND);
		return NOT_FOUND;
	}
	// An initramfs that another loader offers would win over ours.
	const void *taken = &initrd_path;
	void *handle;
	if (!boot->locate_device_path(&load_file2_guid, &taken, &handle)) {
		complain(system, u"another initramfs is loaded: load this program alone", ACCESS_DENIED);
		return ACCESS_DENIED;
	}
	struct initrd initrd = {load_initrd, data.data, data.size};
	handle = 0;
	s = boot->install_protocol(&handle, &device_path_guid, 0, (void *)&initrd_path);
	if (s) {
		complain(system, u"the firmware takes no device path", s);
		return s;
	}
	s = boot->install_protocol(&handle, &load_file2_guid, 0, &initrd);
	if (s) {
		complain(system, u"the firmware takes no initramfs", s);
	} else {
		s = start(self, system, image, linux);
		boot->uninstall_protocol(handle, &load_file2_guid, &initrd);
	}
	boot->uninstall_protocol(handle, &device_path_guid, (void *)&initrd_path);
	return s;
}
