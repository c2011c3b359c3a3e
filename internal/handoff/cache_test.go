package handoff_test

import (
	"errors"
	"testing"

	"github.com/inetboot/inetboot/internal/handoff"
)

func TestParseCache(t *testing.T) {
	for value, want := range map[string]handoff.Cache{
		"":                                     {},
		"auto":                                 {Mode: handoff.CacheAuto},
		"none":                                 {Mode: handoff.CacheNone},
		"ram":                                  {Mode: handoff.CacheRAM},
		"ram:1000":                             {Mode: handoff.CacheRAM, Size: 1000},
		"ram:512m":                             {Mode: handoff.CacheRAM, Size: 512 << 20},
		"ram:2G":                               {Mode: handoff.CacheRAM, Size: 2 << 30},
		"1234-ABCD":                            {Mode: handoff.CacheAuto, UUID: "1234-ABCD"},
		"e139ce78-9841-40fe-8823-96a304a09859": {Mode: handoff.CacheAuto, UUID: "e139ce78-9841-40fe-8823-96a304a09859"},
	} {
		if got, err := handoff.ParseCache(value); err != nil || got != want {
			t.Errorf("ParseCache(%q) = %+v, %v; want %+v", value, got, err, want)
		}
	}
	for _, value := range []string{"Auto", "ram:", "ram:0", "ram:-1", "ram:x", "ram:99999999T", "none:1", "/dev/sda1", "../x", "12"} {
		if got, err := handoff.ParseCache(value); !errors.Is(err, handoff.ErrInvalid) {
			t.Errorf("ParseCache(%q) = %+v, %v; want ErrInvalid", value, got, err)
		}
	}
}
