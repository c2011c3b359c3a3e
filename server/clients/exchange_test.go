package clients

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const dhcpd = `# comment { ;
option domain-name "x;y{";
subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10 10.0.0.20; pool { allow unknown-clients; } }
host alpha { hardware ethernet 0:1:2:A:b:c; fixed-address 10.0.0.5; }
group room-1 {
  option domain-name-servers 10.0.0.1, 10.0.0.2;
  host beta {
    hardware ethernet 52:54:00:12:34:57; option host-name "pcb"; filename "/pxe/x.0";
    if exists agent.circuit-id { log(info, "x"); }
    fixed-address beta.example.org;
  }
}
group { host gamma { hardware ethernet 52:54:00:12:34:58; } }
`

func TestParseISC(t *testing.T) {
	got, err := ParseISC("dhcpd.conf", []byte(dhcpd))
	if err != nil {
		t.Fatal(err)
	}
	want := []Section{
		{Kind: Client, Name: "00:01:02:0a:0b:0c", Line: 4, Values: []Value{{Key: "address", Text: "10.0.0.5"}, {Key: "name", Text: "alpha"}}},
		{Kind: Group, Name: "room-1", Line: 7},
		{Kind: Client, Name: "52:54:00:12:34:57", Line: 7, Values: []Value{{Key: "name", Text: "pcb"}, {Key: "file", Text: "pxe/x.0"}, {Key: "group", Text: "room-1"}}},
		{Kind: Client, Name: "52:54:00:12:34:58", Line: 13, Values: []Value{{Key: "name", Text: "gamma"}}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Section{}, "File"), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("hosts (-want +got):\n%s", d)
	}
	if _, err := NewBook(got, nil); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"host a { }\n": "1: host a has no hardware ethernet", "\nhost a { hardware ethernet x:y; }": "2: host a: hardware ethernet x:y", "host a {": "} is missing",
		"}": "} without", "x": "; is missing", `x "y`: "does not end", "host a { fixed-address 1.2.3.4 }": "; is missing", strings.Repeat("x {", 100): "deeper",
	} {
		if _, err := ParseISC("f", []byte(text)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// What is written is read again, in each format.
func TestExchange(t *testing.T) {
	list, err := Parse("x", []byte(school))
	if err != nil {
		t.Fatal(err)
	}
	var machines []Section
	for _, s := range list {
		if s.Kind == Client {
			machines = append(machines, s)
		}
	}
	same := cmp.Options{cmpopts.IgnoreFields(Section{}, "File", "Line"), cmpopts.IgnoreFields(Value{}, "Line"), cmpopts.SortSlices(func(a, b Value) bool { return a.Key < b.Key }), cmpopts.EquateEmpty()}
	got, err := Parse("x", Format(list))
	if d := cmp.Diff(list, got, same); d != "" || err != nil {
		t.Errorf("conf: %v (-want +got):\n%s", err, d)
	}
	j, err := FormatJSON(list)
	if err != nil {
		t.Fatal(err)
	}
	got, err = ParseJSON("x", j)
	if d := cmp.Diff(list, got, same); d != "" || err != nil {
		t.Errorf("json: %v (-want +got):\n%s", err, d)
	}
	table, err := FormatCSV(list)
	if err != nil {
		t.Fatal(err)
	}
	got, err = ParseCSV("x", table)
	if d := cmp.Diff(machines, got, same); d != "" || err != nil {
		t.Errorf("csv: %v (-want +got):\n%s", err, d)
	}
	if hosts, err := ParseISC("x", FormatISC(list)); err != nil || len(hosts) != 1 || hosts[0].Name != "52:54:00:12:34:56" {
		t.Errorf("isc: %v, %v", hosts, err)
	}
	for text, want := range map[string]string{
		"": "first line", "name,address\n": "no column", "mac,boot\n52:54:00:12:34:56,nfs\nx y,nfs\npc1,what\n": "f:3", "mac,client\n": "two columns", "mac\n\"": "f:", "client\na,b\n": "f:",
	} {
		if _, err := ParseCSV("f", []byte(text)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// Whatever a file says, it is refused or means the same when it is written and
// read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(school))
	f.Add([]byte("[default]\r\nlike=a\n[section a]\nlike = default\n"))
	f.Add([]byte("\ufeff[*]\nknown=yes\n[client default]\nargument==\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse("f", data)
		if err != nil {
			return
		}
		b, err := NewBook(list, nil)
		if err != nil {
			return
		}
		text := Format(b.Merged())
		again, err := Parse("f", text)
		if err != nil {
			t.Fatalf("%q is not read again: %v", text, err)
		}
		b2, err := NewBook(again, nil)
		if err != nil {
			t.Fatalf("%q is not whole: %v", text, err)
		}
		for _, id := range []Identity{{}, {MAC: "52:54:00:12:34:56", Host: "pc1"}, {UUID: "4c4c4544-0043-5210-8053-b4c04f4e3132"}} {
			x, y := b.Lookup(id), b2.Lookup(id)
			x.Origins, y.Origins = nil, nil
			if d := cmp.Diff(x, y, cmpopts.EquateComparable(x.Address), cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%q means something else:\n%s", text, d)
			}
		}
	})
}

func FuzzParseISC(f *testing.F) {
	f.Add([]byte(dhcpd))
	f.Add([]byte(`host a{hardware ethernet 525400123456;filename "a\"b";}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseISC("f", data)
		if err != nil {
			return
		}
		for _, s := range list {
			for _, v := range s.Values {
				if err := checkValue(s.Kind, s.Name, v); err != nil {
					t.Fatalf("%s: %v", s.Header(), err)
				}
			}
		}
		if _, err := ParseISC("f", FormatISC(list)); err != nil {
			t.Fatalf("%q is not read again: %v", FormatISC(list), err)
		}
	})
}

func FuzzParseCSV(f *testing.F) {
	f.Add([]byte("mac,name,argument\n52:54:00:12:34:56,pc1,\"a \"\"b\"\"\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseCSV("f", data)
		if err != nil || Duplicates(list) != nil {
			return
		}
		text, err := FormatCSV(list)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, []byte("client,")) {
			t.Fatalf("%q", text)
		}
	})
}
