package disk

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// maxFstab bounds fstab, in bytes.
const maxFstab = 1 << 20

// line is one line of fstab(5).
type line struct {
	text              string
	spec, where, kind string // "" for comments
	drop              bool
}

// local tells whether what is mounted lies on a disk.
func (l *line) local() bool {
	upper := strings.ToUpper(l.spec)
	for _, p := range []string{"UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/DEV/"} {
		if strings.HasPrefix(upper, p) {
			return true
		}
	}
	// A swap file is no use on a root in memory.
	return l.kind == "swap"
}

func parseFstab(text []byte) []line {
	var out []line
	for raw := range bytes.Lines(text) {
		l := line{text: strings.TrimRight(string(raw), "\r\n")}
		if f := strings.Fields(l.text); len(f) >= 3 && !strings.HasPrefix(f[0], "#") {
			l.spec, l.where, l.kind = f[0], unescape(f[1]), f[2]
		}
		out = append(out, l)
	}
	return out
}

// unescape undoes the octal escapes of fstab(5).
func unescape(s string) string {
	for _, e := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

// formatFstab writes lines back, with those that are to be dropped as comments.
func formatFstab(lines []line) []byte {
	var out bytes.Buffer
	for _, l := range lines {
		if l.drop {
			out.WriteString(source.FstabComment)
		}
		out.WriteString(l.text + "\n")
	}
	return out.Bytes()
}

// deviceNumber returns the partition that a name such as /dev/vda1,
// /dev/nvme0n1p2 or /dev/mapper/loop0p1 means, or 0.
func deviceNumber(spec string) int {
	digits := len(spec)
	for digits > 0 && spec[digits-1] >= '0' && spec[digits-1] <= '9' {
		digits--
	}
	head := spec[:digits]
	for _, disk := range []string{"/dev/sd", "/dev/vd", "/dev/hd", "/dev/xvd", "/dev/nvme", "/dev/mmcblk"} {
		if strings.HasPrefix(head, disk) {
			n, err := strconv.Atoi(spec[digits:])
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

func readAll(e *source.Entry) ([]byte, error) {
	r, err := e.Contents.Open(e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, e.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: /%s: %w", source.ErrUnreadable, e.Path, err)
	}
	return b, nil
}
