package vmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// monitor speaks QEMU's machine protocol (docs/interop/qmp-spec in QEMU).
type monitor struct {
	mu     sync.Mutex
	conn   net.Conn
	enc    *json.Encoder
	next   int
	wait   map[int]chan qmpReply
	reason string // of the SHUTDOWN event
	resets int    // by the guest
	ended  error
}

type qmpReply struct {
	ID     *int            `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct{ Desc string }
	Event  string
	Data   struct {
		Reason string
		Guest  bool
	}
}

func newMonitor(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, enc: json.NewEncoder(conn), wait: make(map[int]chan qmpReply)}
	go m.read(bufio.NewReader(conn))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := m.command(ctx, "qmp_capabilities", nil)
	return m, err
}

func (m *monitor) read(r *bufio.Reader) {
	dec := json.NewDecoder(r)
	for {
		var reply qmpReply
		err := dec.Decode(&reply)
		m.mu.Lock()
		switch {
		case err != nil:
			m.ended = fmt.Errorf("QEMU's monitor: %w", err)
			for id, ch := range m.wait {
				close(ch)
				delete(m.wait, id)
			}
		case reply.Event == "SHUTDOWN":
			m.reason = reply.Data.Reason
		case reply.Event == "RESET" && reply.Data.Guest:
			m.resets++
		case reply.ID != nil:
			if ch := m.wait[*reply.ID]; ch != nil {
				ch <- reply
				delete(m.wait, *reply.ID)
			}
		}
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (m *monitor) command(ctx context.Context, name string, args any) (json.RawMessage, error) {
	m.mu.Lock()
	if m.ended != nil {
		defer m.mu.Unlock()
		return nil, m.ended
	}
	m.next++
	id, ch := m.next, make(chan qmpReply, 1)
	m.wait[id] = ch
	msg := map[string]any{"execute": name, "id": id}
	if args != nil {
		msg["arguments"] = args
	}
	err := m.enc.Encode(msg)
	m.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("tell QEMU %s: %w", name, err)
	}
	select {
	case r, ok := <-ch:
		if !ok {
			return nil, fmt.Errorf("tell QEMU %s: %w", name, ErrEnded)
		}
		if r.Error != nil {
			return nil, fmt.Errorf("tell QEMU %s: %s", name, r.Error.Desc)
		}
		return r.Return, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("tell QEMU %s: %w", name, ctx.Err())
	}
}

// Monitor sends a command of QEMU's machine protocol.
func (v *VM) Monitor(ctx context.Context, name string, args any) (json.RawMessage, error) {
	return v.monitor.command(ctx, name, args)
}

// Resets is how often the guest has reset the machine: its system, and its
// firmware, which may do so on its way.
func (v *VM) Resets() int {
	v.monitor.mu.Lock()
	defer v.monitor.mu.Unlock()
	return v.monitor.resets
}

// SendKeys presses and releases keys on the machine's keyboard, one after
// another. Keys are QEMU's names: "down", "ret", "a", "1"; "ctrl-c" is a chord.
func (v *VM) SendKeys(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		var chord []map[string]string
		for name := range strings.SplitSeq(k, "-") {
			chord = append(chord, map[string]string{"type": "qcode", "data": name})
		}
		if _, err := v.Monitor(ctx, "send-key", map[string]any{"keys": chord, "hold-time": 50}); err != nil {
			return err
		}
		select { // a keyboard is no faster
		case <-time.After(120 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// SetLink plugs the cable of network card i in or out.
func (v *VM) SetLink(ctx context.Context, i int, up bool) error {
	_, err := v.Monitor(ctx, "set_link", map[string]any{"name": fmt.Sprintf("card%d", i), "up": up})
	return err
}

// ScreenText reads the VGA text screen, 80 columns and 25 lines, which is what
// BIOS machines show. The machine needs VGA.
func (v *VM) ScreenText(ctx context.Context) (string, error) {
	file := filepath.Join(v.dir, "vga")
	defer os.Remove(file)
	const cells = 80 * 25
	if _, err := v.Monitor(ctx, "pmemsave", map[string]any{"val": 0xb8000, "size": 2 * 8 * 1024 * 2, "filename": file}); err != nil {
		return "", err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	// The console scrolls by moving its start within the 32 KiB of memory.
	// The cells that are not part of it are blank or old.
	var lines []string
	for row := 0; (row+1)*160 <= len(data); row++ {
		line := make([]byte, 80)
		for col := range line {
			line[col] = data[row*160+col*2]
			if line[col] < 0x20 || line[col] > 0x7e {
				line[col] = ' '
			}
		}
		lines = append(lines, strings.TrimRight(string(line), " "))
	}
	if len(lines) < cells/80 {
		return "", errors.New("the screen's memory is cut short")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n"), nil
}

// Screenshot writes the screen as a PNG file.
func (v *VM) Screenshot(ctx context.Context, file string) error {
	_, err := v.Monitor(ctx, "screendump", map[string]any{"filename": file, "format": "png"})
	return err
}
