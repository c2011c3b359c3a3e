package system

import (
	"os"
	"slices"
	"strings"
)

// MissingFirmware returns the files of firmware that the kernel says it has
// looked for in vain, sorted, at most twelve. It reads the messages of
// drivers/base/firmware_loader:
//
//	bnx2 0000:01:00.0: Direct firmware load for bnx2/x.fw failed with error -2
//	bnx2 0000:01:00.0: firmware: failed to load bnx2/x.fw (-2)
//
// of which Debian's kernels have the second.
func MissingFirmware(kernelLog []string) []string {
	var files []string
	for _, line := range kernelLog {
		for _, m := range []struct{ before, after string }{
			{": Direct firmware load for ", " failed with error -2"},
			{": firmware: failed to load ", " (-2)"},
		} {
			if _, rest, ok := strings.Cut(line, m.before); ok {
				if file, _, ok := strings.Cut(rest, m.after); ok && file != "" && len(file) <= 128 {
					files = append(files, file)
				}
			}
		}
	}
	slices.Sort(files)
	files = slices.Compact(files)
	return files[:min(len(files), maxAdapters)]
}

// IsFolder tells whether there is a folder of that name.
func IsFolder(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}
