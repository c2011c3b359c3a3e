package settings

import "testing"

func TestOverride(t *testing.T) {
	for _, tt := range []struct {
		cmdline       string
		drop, options []string
		want          string
	}{
		{`quiet ip=dhcp a="b c" ip=1.2.3.4 nodhcp` + "\n", []string{"ip", "nodhcp"}, []string{"ip=off", "vlan="}, `quiet a="b c" ip=off vlan=`},
		{"", nil, nil, ""},
		{"ipx=1 xip=2 ip", []string{"ip"}, nil, "ipx=1 xip=2"},
		{"a", nil, []string{`b=c "d"`}, `a b="c d"`},
	} {
		if got := Override(tt.cmdline, tt.drop, tt.options); got != tt.want {
			t.Errorf("Override(%q, %q, %q) = %q; want %q", tt.cmdline, tt.drop, tt.options, got, tt.want)
		}
	}
}
