// Package uki writes unified kernel images: one UEFI program that holds a
// kernel, its initramfs and its command line (UAPI.5, "Unified Kernel Image"),
// and starts the kernel through the kernel's own EFI stub.
//
//	0       PE headers, the loader (.text), .reloc, .cmdline; a multiple of Align
//	Head    .linux: the kernel, padded with zeros to a multiple of Align
//	        .initrd: the archives, each padded with zeros to a multiple of Align
//
// So every part begins at a place that a block of a CD can begin at, too.
package uki

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
)

// Align is what the offset of every part is a multiple of, in bytes.
const Align = 2048

//go:embed loader/loader.c
var loaderSource []byte

//go:embed loader/loader.ld
var loaderScript []byte

// Parts is what goes into an image.
type Parts struct {
	Kernel  []byte   // a bzImage with EFI stub
	Initrd  [][]byte // initramfs archives, in this order
	Cmdline string   // printable ASCII
}

// Image is a finished program. Data is Head bytes that belong to the program
// itself, and then the parts, each as Pad makes it.
type Image struct {
	Data []byte
	Head int
}

// ErrParts is wrapped when parts cannot be made into an image.
var ErrParts = errors.New("no unified kernel image can be made of this")

// Build compiles the loader with gcc and writes the image. Same parts and
// same compiler, same bytes.
func Build(ctx context.Context, p Parts) (*Image, error) {
	loader, err := compile(ctx)
	if err != nil {
		return nil, err
	}
	return assemble(loader, p)
}

// Pad returns data with zeros behind it, up to a multiple of Align.
func Pad(data []byte) []byte {
	return append(data[:len(data):len(data)], make([]byte, roundUp(len(data), Align)-len(data))...)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// Numbers of the PE format ("PE Format", Microsoft).
const (
	fileAlign    = 512  // of sections in the file; also room for all headers
	sectionAlign = 4096 // of sections in memory
	headers      = 512
	peOffset     = 64
	sections     = 5

	machineAMD64   = 0x8664
	isExecutable   = 0x0002
	isLargeAddress = 0x0020
	magicPE32Plus  = 0x20b
	optionalSize   = 112 + 8*directories
	directories    = 6
	relocDirectory = 5
	subsystemEFI   = 10     // EFI application
	nxCompatible   = 0x0100 // no section is both written to and run

	code        = 0x60000020 // code, execute, read
	data        = 0x40000040 // initialised data, read
	discardable = 0x42000040 // the same, not needed once loaded
)

// section is a part of the program with its place in the file.
type section struct {
	name   string
	flags  uint32
	offset int
	data   []byte
}

func assemble(loader []byte, p Parts) (*Image, error) {
	for _, c := range []byte(p.Cmdline) {
		if c < ' ' || c > '~' {
			return nil, fmt.Errorf("%w: the command line %q is not printable ASCII", ErrParts, p.Cmdline)
		}
	}
	if len(p.Kernel) == 0 || len(p.Initrd) == 0 {
		return nil, fmt.Errorf("%w: kernel of %d bytes, %d initramfs archives", ErrParts, len(p.Kernel), len(p.Initrd))
	}
	var initrd []byte
	for _, a := range p.Initrd {
		initrd = append(initrd, Pad(a)...)
	}
	// There is nothing to relocate, but firmware has been seen that loads only
	// programs with a table for it: one block with two entries that say "none".
	reloc := make([]byte, 8+2*2)
	binary.LittleEndian.PutUint32(reloc[4:], uint32(len(reloc)))

	list := [sections]section{
		{".text", code, 0, loader},
		{".reloc", discardable, 0, reloc},
		{".cmdline", data, 0, append([]byte(p.Cmdline), 0)},
		{".linux", data, 0, Pad(p.Kernel)},
		{".initrd", data, 0, initrd},
	}
	at, head := headers, 0
	for i := range list {
		if list[i].name == ".linux" {
			at = roundUp(at, Align)
			head = at
		}
		list[i].offset = at
		at += roundUp(len(list[i].data), fileAlign)
	}
	if at > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes", ErrParts, at)
	}
	image := make([]byte, at)
	writeHeaders(image, list[:], len(loader))
	for _, s := range list {
		copy(image[s.offset:], s.data)
	}
	return &Image{image, head}, nil
}

func writeHeaders(image []byte, list []section, codeSize int) {
	le := binary.LittleEndian
	copy(image, "MZ")
	le.PutUint32(image[0x3c:], peOffset)

	file := image[peOffset:]
	copy(file, "PE\x00\x00")
	le.PutUint16(file[4:], machineAMD64)
	le.PutUint16(file[6:], uint16(len(list)))
	le.PutUint16(file[20:], optionalSize)
	le.PutUint16(file[22:], isExecutable|isLargeAddress)

	optional := file[24:]
	table := optional[optionalSize:]
	address := sectionAlign
	for i, s := range list {
		entry := table[40*i:][:40]
		copy(entry, s.name)
		le.PutUint32(entry[8:], uint32(len(s.data)))
		le.PutUint32(entry[12:], uint32(address))
		le.PutUint32(entry[16:], uint32(roundUp(len(s.data), fileAlign)))
		le.PutUint32(entry[20:], uint32(s.offset))
		le.PutUint32(entry[36:], s.flags)
		if s.name == ".reloc" {
			le.PutUint32(optional[112+8*relocDirectory:], uint32(address))
			le.PutUint32(optional[112+8*relocDirectory+4:], uint32(len(s.data)))
		}
		address += roundUp(len(s.data), sectionAlign)
	}
	le.PutUint16(optional[0:], magicPE32Plus)
	le.PutUint32(optional[4:], uint32(roundUp(codeSize, fileAlign)))
	le.PutUint32(optional[8:], uint32(len(image)-headers-roundUp(codeSize, fileAlign)))
	le.PutUint32(optional[16:], sectionAlign) // the entry is where .text, the first section, begins
	le.PutUint32(optional[20:], sectionAlign)
	le.PutUint32(optional[32:], sectionAlign)
	le.PutUint32(optional[36:], fileAlign)
	le.PutUint32(optional[56:], uint32(address))
	le.PutUint32(optional[60:], headers)
	le.PutUint16(optional[68:], subsystemEFI)
	le.PutUint16(optional[70:], nxCompatible)
	le.PutUint32(optional[108:], directories)
}

// compile returns the loader: code whose entry is its first byte.
func compile(ctx context.Context) ([]byte, error) {
	work, err := os.MkdirTemp("", "inetboot-loader-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the loader: %w", err)
	}
	defer os.RemoveAll(work)
	source, script := filepath.Join(work, "loader.c"), filepath.Join(work, "loader.ld")
	object, flat := filepath.Join(work, "loader.o"), filepath.Join(work, "loader.bin")
	if err := os.WriteFile(source, loaderSource, 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(script, loaderScript, 0o644); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"gcc", "-c", "-std=c11", "-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-builtin", "-fpie", "-fvisibility=hidden",
			"-mno-red-zone", "-mgeneral-regs-only", "-fcf-protection=none", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
			"-o", object, source},
		{"ld", "-T", script, "--oformat", "binary", "-o", flat, object},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("compile the loader: %w (`make deps` installs it)", err)
		}
		if err != nil {
			return nil, fmt.Errorf("compile the loader: %s: %w: %s", args[0], err, out)
		}
	}
	return os.ReadFile(flat)
}
