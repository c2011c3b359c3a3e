package vmtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// qemu is the emulator's name.
const qemu = "qemu-system-x86_64"

// probed remembers the answer, which does not change while a process lives.
var probed = sync.OnceValue(func() string { return probe(context.Background(), qemu, 2*time.Second) })

// Accel returns "kvm" if a guest really runs with it, else "tcg". There are
// machines on which /dev/kvm opens and guests hang for ever, so a guest of one
// sector is started and has to answer within two seconds.
func Accel() string { return probed() }

// probeSector is a boot sector: it writes 0x10 to port 0xf4, where QEMU's
// isa-debug-exit turns it into exit code 0x21, and halts.
func probeSector() []byte {
	s := make([]byte, 512)
	copy(s, []byte{
		0xb0, 0x10, // mov al, 0x10
		0xe6, 0xf4, // out 0xf4, al
		0xfa, 0xf4, // cli; hlt
		0xeb, 0xfc, // jmp back
	})
	s[510], s[511] = 0x55, 0xaa
	return s
}

func probe(ctx context.Context, program string, limit time.Duration) string {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return "tcg"
	}
	dir, err := os.MkdirTemp("", "inetboot-probe-*")
	if err != nil {
		return "tcg"
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, probeSector(), 0o600); err != nil {
		return "tcg"
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-accel", "kvm", "-nodefaults", "-no-user-config", "-display", "none", "-m", "16",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive", "format=raw,file="+disk)
	cmd.WaitDelay = time.Second
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) && exit.ExitCode() == 0x21 {
		return "kvm"
	}
	return "tcg"
}
