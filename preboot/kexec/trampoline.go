package kexec

import "encoding/binary"

// Registers are set at a program's entry. EBP and EDI are zero.
type Registers struct{ EAX, EBX, ESI uint32 }

// Selectors of the segments at a program's entry: the Linux boot protocol fixes
// them (__BOOT_CS and __BOOT_DS), other protocols do not care.
const (
	selectorCode = 0x10
	selectorData = 0x18
)

// maxCopies is how many copies the code has room for.
const maxCopies = 8

// trampoline returns the machine code, for the address at, that leads from
// 64-bit mode to a program's entry, with interrupts off.
func trampoline(at, entry uint32, r Registers, copies []Copy) []byte {
	const (
		code32   = 0x30 // offsets of the pieces
		gdt      = 0x180
		gdtPlace = 0x1a0
		stackEnd = Page
	)
	le := binary.LittleEndian
	b := make([]byte, 0, Page)
	emit := func(code ...byte) { b = append(b, code...) }
	long := func(n uint32, code ...byte) { b = le.AppendUint32(append(b, code...), n) }
	until := func(n int) { b = append(b, make([]byte, n-len(b))...) }

	// 64-bit mode, paging is on, all RAM is mapped to itself.
	emit(0xfa)                // cli
	emit(0xfc)                // cld
	long(at+stackEnd, 0xbc)   // mov esp, the page's end
	long(at+gdtPlace, 0xbf)   // mov edi, gdtPlace
	emit(0x0f, 0x01, 0x17)    // lgdt [rdi]
	emit(0x6a, selectorCode)  // push the selector of 32-bit code
	long(at+code32, 0xb8)     // mov eax, code32
	emit(0x50)                // push rax
	emit(0x48, 0xcb)          // retfq
	until(code32)             // 32-bit mode, paging is on
	long(selectorData, 0xb8)  // mov eax, the selector of data
	emit(0x8e, 0xd8)          // mov ds, eax
	emit(0x8e, 0xc0)          // mov es, eax
	emit(0x8e, 0xe0)          // mov fs, eax
	emit(0x8e, 0xe8)          // mov gs, eax
	emit(0x8e, 0xd0)          // mov ss, eax
	emit(0x0f, 0x20, 0xc0)    // mov eax, cr0
	long(0x7fffffff, 0x25)    // and eax, without PG
	emit(0x0f, 0x22, 0xc0)    // mov cr0, eax
	long(0xc0000080, 0xb9)    // mov ecx, EFER
	emit(0x0f, 0x32)          // rdmsr
	long(^uint32(1<<8), 0x25) // and eax, without LME
	emit(0x0f, 0x30)          // wrmsr
	emit(0x31, 0xc0)          // xor eax, eax
	emit(0x0f, 0x22, 0xe0)    // mov cr4, eax
	for _, c := range copies {
		long(c.From, 0xbe) // mov esi, From
		long(c.To, 0xbf)   // mov edi, To
		long(c.Size, 0xb9) // mov ecx, Size
		emit(0xf3, 0xa4)   // rep movsb
	}
	emit(0x31, 0xed)                         // xor ebp, ebp
	emit(0x31, 0xff)                         // xor edi, edi
	long(r.ESI, 0xbe)                        // mov esi, ESI
	long(r.EAX, 0xb8)                        // mov eax, EAX
	long(r.EBX, 0xbb)                        // mov ebx, EBX
	long(entry, 0xb9)                        // mov ecx, entry
	emit(0xff, 0xe1)                         // jmp ecx
	until(gdt)                               // descriptors
	b = le.AppendUint64(b, 0)                //
	b = le.AppendUint64(b, 0)                //
	b = le.AppendUint64(b, 0xcf9a000000ffff) // code, 32 bits, 4 GiB
	b = le.AppendUint64(b, 0xcf92000000ffff) // data, 4 GiB
	until(gdtPlace)
	b = le.AppendUint16(b, 4*8-1)
	b = le.AppendUint64(b, uint64(at+gdt))
	return b
}
