package tftp

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// lookTime is for how long the answer to a packet is looked for before its
	// thread sleeps: longer than a client on a short line takes, and about what
	// it costs a processor to fall asleep and to wake up.
	lookTime = 40 * time.Microsecond
	// mostSkipped bounds how many packets in a row are not looked for.
	mostSkipped = 4096
)

// look is looking for a packet again and again, instead of sleeping until it
// comes. Without windows a client's answer is all that a transfer waits for, and
// on a short line it is there sooner than a sleeping thread is awake, on virtual
// machines above all: there an idle processor's way back leads through the host.
// Where looking does not help, it is tried ever less often. One transfer looks at
// a time, and none on a machine with one processor, which the client may need.
type look struct {
	turn   *atomic.Bool // somebody looks
	missed int          // how often in vain, less the successes, up to 12
	skip   int          // packets that are not looked for
}

// read reads a packet into p, which is not empty, if one comes soon; ok is false
// if none does.
func (l *look) read(fd int, p []byte) (n int, ok bool, err error) {
	if l.skip > 0 {
		l.skip--
		return 0, false, nil
	}
	if l.turn == nil || runtime.GOMAXPROCS(0) == 1 || !l.turn.CompareAndSwap(false, true) {
		return 0, false, nil
	}
	defer l.turn.Store(false)
	for start := time.Now(); ; {
		// It never waits, so the runtime need not know of it.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			l.missed = max(0, l.missed-1)
			return int(n), true, nil
		case unix.EAGAIN, unix.EINTR:
		default:
			return 0, true, errno
		}
		if time.Since(start) > lookTime {
			l.skip = min(1<<l.missed, mostSkipped)
			l.missed = min(l.missed+2, 12) // a look in vain costs about twice what another one saves
			return 0, false, nil
		}
	}
}
