package ntp

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"
)

func answer(t time.Time, origin []byte) []byte {
	b := make([]byte, packetSize)
	b[0], b[1] = 4<<3|4, 2
	copy(b[24:], origin)
	binary.BigEndian.PutUint32(b[40:], uint32(t.Unix()+epoch))
	binary.BigEndian.PutUint32(b[44:], 1<<31) // half a second
	return b
}

func TestParse(t *testing.T) {
	origin := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, want := range []time.Time{time.Unix(1_700_000_000, 5e8), time.Date(2035, 1, 1, 0, 0, 0, 5e8, time.UTC), time.Date(2050, 6, 1, 0, 0, 0, 5e8, time.UTC)} {
		if got, err := parse(answer(want, origin[:]), origin); err != nil || !got.Equal(want) {
			t.Errorf("parse() = %v, %v; want %v", got, err, want)
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":           func(b []byte) []byte { return b[:47] },
		"a client":        func(b []byte) []byte { b[0] = 4<<3 | 3; return b },
		"kiss of death":   func(b []byte) []byte { b[1] = 0; return b },
		"no clock":        func(b []byte) []byte { b[1] = 16; return b },
		"unsynchronized":  func(b []byte) []byte { b[0] |= 3 << 6; return b },
		"another request": func(b []byte) []byte { b[31]++; return b },
		"no time":         func(b []byte) []byte { clear(b[40:]); return b },
	} {
		if got, err := parse(change(answer(time.Unix(1_700_000_000, 0), origin[:])), origin); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: parse() = %v, %v; want ErrAnswer", name, got, err)
		}
	}
}

// The first question gets a false answer, the second the time.
func TestQuery(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	go func() {
		buf := make([]byte, 100)
		for i := 0; ; i++ {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			origin := buf[40:n]
			if i == 0 {
				origin = make([]byte, 8)
			}
			if _, err := conn.WriteTo(answer(want, origin), from); err != nil {
				return
			}
		}
	}()
	got, err := query(t.Context(), conn.LocalAddr().String(), nil)
	if err != nil || got.Sub(want) < 0 || got.Sub(want) > 60*time.Second {
		t.Errorf("query() = %v, %v; want %v", got, err, want)
	}
}

func FuzzParse(f *testing.F) {
	origin := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	f.Add(answer(time.Unix(1_700_000_000, 0), origin[:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parse(b, origin); err == nil && (got.Year() < 1968 || got.Year() > 2105) {
			t.Errorf("parse() = %v", got)
		}
	})
}
