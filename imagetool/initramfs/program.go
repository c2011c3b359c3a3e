package initramfs

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrProgram is wrapped when there is no blockfs program for the image.
var ErrProgram = errors.New("no suitable blockfs program")

// maxProgram bounds the blockfs program, in bytes.
const maxProgram = 256 << 20

// FindProgram returns where the blockfs program is: given by name, or beside
// this executable, or in $PATH.
func FindProgram(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	var looked []string
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), "blockfs")
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() {
			return p, nil
		}
		looked = append(looked, p)
	}
	if p, err := exec.LookPath("blockfs"); err == nil {
		return p, nil
	}
	return "", fmt.Errorf("%w: looked for %s and in $PATH: build it with CGO_ENABLED=0 go build ./blockfs, or name it with --blockfs", ErrProgram, looked)
}

// machines are the architectures that images can have, by GOARCH.
var machines = map[string]elf.Machine{
	"386": elf.EM_386, "amd64": elf.EM_X86_64, "arm": elf.EM_ARM, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV,
}

// ReadProgram reads the blockfs program at name and makes sure that it is a
// static executable for arch (as GOARCH): in an initramfs there is no dynamic
// linker.
func ReadProgram(name, arch string) ([]byte, error) {
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist", ErrProgram, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProgram, err)
	}
	if fi.Size() > maxProgram {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrProgram, name, fi.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProgram, err)
	}
	f, err := elf.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrProgram, name, err)
	}
	defer f.Close()
	want, ok := machines[arch]
	if !ok {
		return nil, fmt.Errorf("%w: images for %s are not supported", ErrProgram, arch)
	}
	if f.Machine != want {
		return nil, fmt.Errorf("%w: %s is for %v, the image is for %s: build it with GOARCH=%s", ErrProgram, name, f.Machine, arch, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, fmt.Errorf("%w: %s is not an executable", ErrProgram, name)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%w: %s is linked dynamically: build it with CGO_ENABLED=0", ErrProgram, name)
		}
	}
	return data, nil
}
