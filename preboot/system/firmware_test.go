package system

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMissingFirmware(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("a 0: firmware: failed to load f%02d (-2)", i))
	}
	for _, tt := range []struct {
		name string
		log  []string
		want []string
	}{
		{"nothing", nil, nil},
		{"no failure", []string{"bnx2 0000:01:00.0: firmware: direct-loading firmware bnx2/a.fw", "x: failed to load y (-2)"}, nil},
		{"both kinds, several times, sorted", []string{
			"[    1.5] r8169 0000:02:00.0: firmware: failed to load rtl_nic/rtl8168h-2.fw (-2)",
			"[    1.6] bnx2 0000:01:00.0: Direct firmware load for bnx2/a b.fw failed with error -2",
			"[    1.7] bnx2 0000:01:00.0: Direct firmware load for bnx2/a b.fw failed with error -2",
		}, []string{"bnx2/a b.fw", "rtl_nic/rtl8168h-2.fw"}},
		{"other errors", []string{"a 0: firmware: failed to load b (-12)", "a 0: Direct firmware load for b failed with error -12"}, nil},
		{"cut off", []string{"a 0: firmware: failed to load ", "a 0: Direct firmware load for "}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := MissingFirmware(tt.log)
			if len(got) == 0 {
				got = nil
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("MissingFirmware (-want +got):\n%s", d)
			}
		})
	}
	if got := MissingFirmware(many); len(got) != maxAdapters {
		t.Errorf("MissingFirmware of thirty files names %d; want %d", len(got), maxAdapters)
	}
}
