package mount

import (
	"os"
	"runtime"
)

// SpareProcs gives Go's scheduler two processors more than there are, unless
// GOMAXPROCS is set. Somebody always waits in read(2) for the kernel's next
// request, and the scheduler takes the processor of a waiting system call back
// with a delay only, for which blocks would wait to be decompressed. It is for
// a program's start: it changes the whole process.
func SpareProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	}
}
