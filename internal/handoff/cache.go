package handoff

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// CacheMode says what is to be cached where.
type CacheMode string

// The modes. The empty one says that nobody has said anything: the image's
// own command line counts, and without it CacheAuto.
const (
	CacheAuto CacheMode = "auto" // on the disk with UUID, or on whatever disk has the folder
	CacheNone CacheMode = "none" // nowhere
	CacheRAM  CacheMode = "ram"  // in memory alone, at most Size bytes
)

// Cache says where the target keeps what it has read.
type Cache struct {
	Mode CacheMode `json:"mode,omitempty"`

	// UUID is that of the filesystem that preboot found or was told of: no
	// other one is used. Empty: preboot found none, but it does not know all filesystems.
	UUID string `json:"uuid,omitempty"`

	// Device is what preboot called the device, such as "sda1": a hint for
	// which drivers are wanted. Names do not survive a kexec.
	Device string `json:"device,omitempty"`

	Size int64 `json:"size,omitempty"` // bytes, with CacheRAM; 0: the target decides
}

// CacheOption is the name of the option on kernel command lines.
const CacheOption = "inetboot.cache"

// ParseCache reads the value of CacheOption: "auto", "none", "ram",
// "ram:SIZE" with a size such as 512M, or the UUID of a filesystem. The empty
// value is nobody's choice.
func ParseCache(s string) (Cache, error) {
	head, size, sized := strings.Cut(s, ":")
	switch {
	case s == "":
		return Cache{}, nil
	case s == string(CacheAuto), s == string(CacheNone), s == string(CacheRAM):
		return Cache{Mode: CacheMode(s)}, nil
	case head == string(CacheRAM) && sized:
		n, err := parseSize(size)
		if err != nil {
			return Cache{}, fmt.Errorf("%w: cache in memory: size %q: %w", ErrInvalid, size, err)
		}
		return Cache{Mode: CacheRAM, Size: n}, nil
	case ValidUUID(s):
		return Cache{Mode: CacheAuto, UUID: s}, nil
	}
	return Cache{}, fmt.Errorf("%w: cache %q: want auto, none, ram, ram:SIZE, or the UUID of a filesystem", ErrInvalid, s)
}

// parseSize reads a positive number of bytes, with K, M, G or T behind it for
// powers of 1024.
func parseSize(s string) (int64, error) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, errors.New("want a number of bytes such as 512M or 2G")
	}
	return n << shift, nil
}

func (c *Cache) check() error {
	switch c.Mode {
	case "", CacheAuto, CacheNone, CacheRAM:
	default:
		return fmt.Errorf("mode %q", c.Mode)
	}
	if c.UUID != "" && !ValidUUID(c.UUID) {
		return fmt.Errorf("UUID %q", c.UUID)
	}
	if len(c.Device) > 64 || strings.ContainsAny(c.Device, "/\x00") {
		return fmt.Errorf("device %q", c.Device)
	}
	if c.Size < 0 {
		return fmt.Errorf("size %d", c.Size)
	}
	return nil
}

// ValidUUID tells whether s can be the UUID of a filesystem as blkid(8) prints
// them: hexadecimal digits and hyphens, such as "1234-ABCD" for FAT.
func ValidUUID(s string) bool {
	if len(s) < 4 || len(s) > 40 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') && c != '-' {
			return false
		}
	}
	return true
}
