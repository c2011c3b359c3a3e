package iso9660

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const maxTarget = 4096 // bytes of a symbolic link, as Linux has it

// rockRidge is what the system use field of a record says.
type rockRidge struct {
	name      string
	posix     bool // the next five are there
	mode      uint32
	links     uint32
	uid, gid  uint32
	serial    uint32 // of the file; 0: not said (RRIP 1.10)
	rdev      uint32
	target    string
	dated     bool
	mtime     int64
	child     int64 // where the directory lies that belongs here ("CL"), or 0
	relocated bool  // this directory belongs elsewhere ("RE")
	packed    bool  // with zisofs
}

// rockRidge reads a system use field with the areas in which it goes on.
func (v *Volume) rockRidge(use []byte) (rockRidge, error) {
	var rr rockRidge
	var name strings.Builder
	var link symlink
	if len(use) < v.skip {
		return rr, nil
	}
	use = use[v.skip:]
	for areas := 0; ; areas++ {
		var next []byte
		for len(use) >= 4 && int(use[2]) >= 4 && int(use[2]) <= len(use) {
			e := use[:use[2]]
			switch kind := string(e[:2]); {
			case kind == "NM" && len(e) >= 5 && e[4]&6 == 0:
				name.Write(e[5:])
			case kind == "PX" && len(e) >= 36:
				rr.posix = true
				rr.mode, rr.links, rr.uid, rr.gid = le.Uint32(e[4:]), le.Uint32(e[12:]), le.Uint32(e[20:]), le.Uint32(e[28:])
				if len(e) >= 44 {
					rr.serial = le.Uint32(e[36:])
				}
			case kind == "PN" && len(e) >= 20:
				rr.rdev = device(le.Uint32(e[4:]), le.Uint32(e[12:]))
			case kind == "SL" && len(e) >= 5:
				if err := link.add(e[5:]); err != nil {
					return rr, err
				}
			case kind == "TF" && len(e) >= 5:
				rr.times(e)
			case kind == "CL" && len(e) >= 12:
				rr.child = int64(le.Uint32(e[4:])) * sector
			case kind == "RE":
				rr.relocated = true
			case kind == "ZF":
				rr.packed = true
			case kind == "CE" && len(e) >= 28:
				at, n := int64(le.Uint32(e[4:]))*sector+int64(le.Uint32(e[12:])), int64(le.Uint32(e[20:]))
				if areas == maxContinue || n > sector || at > v.size-n {
					return rr, bad("a name goes on outside of the image")
				}
				next = make([]byte, n)
				if _, err := v.r.ReadAt(next, at); err != nil {
					return rr, fmt.Errorf("read a name: %w", err)
				}
			case kind == "ST":
				use = nil
				continue
			}
			use = use[len(e):]
		}
		if next == nil {
			rr.name, rr.target = name.String(), link.text.String()
			return rr, nil
		}
		use = next
	}
}

// device returns the number of a device as stat(2) has it. Some programs write
// its major and its minor number, others the two halves of the number.
func device(high, low uint32) uint32 {
	if high == 0 && low > 0xff {
		return low
	}
	return uint32(unix.Mkdev(high, low))
}

// symlink puts the parts of a link together.
type symlink struct {
	text  strings.Builder
	slash bool // belongs before the next part
}

func (l *symlink) add(parts []byte) error {
	const goesOn, here, parent, root = 1, 2, 4, 8
	for len(parts) >= 2 {
		flags, n := parts[0], int(parts[1])
		if n > len(parts)-2 {
			return bad("a symbolic link with a part of %d bytes in %d", n, len(parts)-2)
		}
		text := string(parts[2 : 2+n])
		parts = parts[2+n:]
		if l.slash {
			l.text.WriteByte('/')
		}
		l.slash = flags&(goesOn|root) == 0
		switch {
		case flags&root != 0:
			text = "/"
		case flags&parent != 0:
			text = ".."
		case flags&here != 0:
			text = "."
		}
		l.text.WriteString(text)
		if l.text.Len() > maxTarget || strings.IndexByte(text, 0) >= 0 {
			return bad("a symbolic link of more than %d bytes, or with a zero byte", maxTarget)
		}
	}
	return nil
}

// times reads "TF".
func (rr *rockRidge) times(e []byte) {
	const creation, modify, long = 1, 2, 128
	size := 7
	if e[4]&long != 0 {
		size = 17
	}
	at := 5
	if e[4]&creation != 0 {
		at += size
	}
	if e[4]&modify == 0 || len(e) < at+size {
		return
	}
	b := e[at : at+size]
	if size == 7 {
		rr.dated, rr.mtime = true, shortTime(b)
		return
	}
	var n [6]int
	for i, digits := range []string{string(b[0:4]), string(b[4:6]), string(b[6:8]), string(b[8:10]), string(b[10:12]), string(b[12:14])} {
		var err error
		if n[i], err = strconv.Atoi(digits); err != nil {
			return
		}
	}
	rr.dated = true
	rr.mtime = time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC).Unix() - quarters(b[16])
}

// shortTime reads a time of 7 bytes (ECMA-119, 9.1.5), in seconds since 1970.
func shortTime(b []byte) int64 {
	if b[1] == 0 { // not said
		return 0
	}
	return time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, time.UTC).Unix() - quarters(b[6])
}

// quarters returns the seconds of an offset from GMT in quarters of an hour.
func quarters(b byte) int64 { return int64(int8(b)) * 15 * 60 }
