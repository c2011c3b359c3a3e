package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestHelpAndCompletion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"token", "--help"}, {"version", "--help"}, {"logs", "--help"}, {"configure", "--help"}, {"configure", "isc", "--help"}, {"configure", "nftables", "--help"}, {"configure", "systemd", "--help"}, {"setup", "--help"}, {"doctor", "--help"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, &out); err != nil {
			t.Fatal(err)
		}
		if _, example, ok := strings.Cut(out.String(), "Examples:"); !ok || !strings.Contains(example, "  server ") {
			t.Errorf("server %s has no example:\n%s", strings.Join(args, " "), out.String())
		}
	}
	for _, c := range [][]string{
		{"--dhcp", "", "full"}, {"setup", "--dhcp-server", "", "kea"}, {"setup", "--log-format", "", "json"}, {"doctor", "--unknown", "", "no"},
		{"configure", "isc", "--print-template=", "network.conf"}, {"configure", "", "nftables"}, {"", "doctor"},
	} {
		var out bytes.Buffer
		args, want := c[:len(c)-1], c[len(c)-1]
		if err := run(t.Context(), append([]string{"__complete"}, args...), &out, &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("completion of %q: %v, %s; want %s", args, err, out.String(), want)
		}
	}
	var script bytes.Buffer
	if err := run(t.Context(), []string{"completion", "bash"}, &script, &script); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", "source /dev/stdin && complete -p server")
	cmd.Stdin = &script
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "__start_server") {
		t.Errorf("bash does not take the script: %v\n%s", err, out)
	}
}
