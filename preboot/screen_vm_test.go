package main

import (
	"context"
	pixels "image"
	"image/png"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/vmtest"
	"github.com/inetboot/inetboot/preboot/console"
)

// glyphs is a framebuffer console as a picture: of each cell what is written in
// it, "" if that is nothing. The font is not known.
type glyphs [][]string

// cellsOf divides the upper left of a picture, where menus are, into cells of
// that size. What is written in a cell is what has another colour than most of
// it.
func cellsOf(img pixels.Image, width, height int) glyphs {
	b := img.Bounds()
	var out glyphs
	for y := b.Min.Y; y+height <= b.Max.Y && len(out) < 40; y += height {
		var row []string
		for x := b.Min.X; x+width <= b.Max.X && len(row) < console.MaxWidth; x += width {
			count := make(map[uint32]int)
			cell := make([]uint32, 0, width*height)
			for dy := range height {
				for dx := range width {
					r, g, b, _ := img.At(x+dx, y+dy).RGBA()
					c := r>>8<<16 | g>>8<<8 | b>>8
					cell = append(cell, c)
					count[c]++
				}
			}
			most := cell[0]
			for c, n := range count {
				if n > count[most] || n == count[most] && c < most {
					most = c
				}
			}
			key := ""
			if len(count) > 1 {
				bits := make([]byte, len(cell))
				for i, c := range cell {
					if c != most {
						bits[i] = 1
					}
				}
				key = string(bits)
			}
			row = append(row, key)
		}
		out = append(out, row)
	}
	return out
}

// shows tells whether all of these texts are written somewhere, in one font: each
// character looks the same wherever it is, and like no other one.
func (g glyphs) shows(texts ...string) bool {
	return g.match(map[rune]string{' ': ""}, map[string]rune{"": ' '}, texts)
}

func (g glyphs) match(font map[rune]string, back map[string]rune, texts []string) bool {
	if len(texts) == 0 {
		return true
	}
	text := []rune(texts[0])
	for _, row := range g {
		for at := 0; at+len(text) <= len(row); at++ {
			var learnt []rune
			ok := true
			for i, r := range text {
				cell := row[at+i]
				look, known := font[r]
				other, taken := back[cell]
				switch {
				case known && look == cell:
					continue
				case known || taken && other != r:
					ok = false
				default:
					font[r], back[cell] = cell, r
					learnt = append(learnt, r)
					continue
				}
				break
			}
			if ok && g.match(font, back, texts[1:]) {
				return true
			}
			for _, r := range learnt {
				delete(back, font[r])
				delete(font, r)
			}
		}
	}
	return false
}

// picture takes a picture of the screen.
func picture(t *testing.T, vm *vmtest.VM) pixels.Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), "screen.png")
	if err := vm.Screenshot(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// counter counts what a serial line shows.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// A machine with a screen of 4K pixels and a serial line of 9600 baud: both show
// the menu. One is written large enough to be read, and the other gets no more at
// once than goes over it in the time that people wait.
func TestLargeScreenAndSlowLine(t *testing.T) {
	b := newBed(t, -1)
	vm := b.start(t, b.site(), vmtest.Config{
		Name: "4k", Firmware: vmtest.UEFI, CPUs: 1, Append: "console=tty0 console=ttyS0,9600",
		Args: []string{"-device", "VGA,edid=on,xres=3840,yres=2160,refresh_rate=30000,vgamem_mb=64", "-device", "usb-kbd,bus=usb.0"},
	})
	// 8 by 16 pixels would be hard to read.
	screen := func(texts ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(patience)*time.Second)
		defer cancel()
		for {
			img := picture(t, vm)
			size := img.Bounds().Size()
			if size == pixels.Pt(3840, 2160) && cellsOf(img, 16, 32).shows(texts...) {
				return
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				screenshot(t, vm, "4k-failed")
				t.Fatalf("the screen of %v does not show %q", size, texts)
			}
		}
	}
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	vm.ExpectT(t, patience, `Enter: start`)
	screen(" Test menu", " >  1  Tiny Linux 1", "    2  More systems  ...", "    3  Restart", "   64 MB", "Tells how it was started.", "Enter: start  Up/Down, number, letters: choose")
	screenshot(t, vm, "4k")

	var sent counter
	vm.Attach(&sent)
	silence := func() int64 {
		last := int64(-1)
		for n := sent.n.Load(); n != last; n = sent.n.Load() {
			last = n
			time.Sleep(300 * time.Millisecond)
		}
		return last
	}
	silence()
	for _, step := range []struct {
		what, keys, shows string
		limit             int64 // bytes, of which there are 960 in a second
	}{
		{"next entry", keyDown, `> +2  More systems`, 300},
		{"submenu", "\r", `> +1  Deep inside`, 1200},
		{"back", "\x1b", `> +2  More systems`, 1200},
		{"first letter of a search", "d", `Search: d`, 1200},
		{"back from the search", "\x1b", `> +2  More systems`, 1200},
		{"everything anew", "\x0c", `Test menu`, 1500},
	} {
		sent.n.Store(0)
		vm.SendT(t, step.keys)
		vm.ExpectT(t, patience, step.shows)
		last := silence()
		t.Logf("%-25s %5d bytes, %.2f s at 9600 baud", step.what, last, float64(last)/960)
		if last > step.limit {
			t.Errorf("%s sends %d bytes; want %d at most", step.what, last, step.limit)
		}
	}
	if err := vm.SendKeys(t.Context(), "down"); err != nil {
		t.Fatal(err)
	}
	screen(" Test menu", "    1  Tiny Linux 1", "    2  More systems  ...", " >  3  Restart")
	vm.SendT(t, "4\r") // Power off
	vm.ExpectT(t, patience, `inetboot: switching off\n`)
	ended(t, vm, "guest-shutdown")
}

// A character that is written in two ways, and two that are written in one.
func TestGlyphs(t *testing.T) {
	g := glyphs{{"", "a", "b", "a", ""}, {"c", "a", "b", "", "d"}}
	for _, tt := range []struct {
		texts []string
		want  bool
	}{
		{[]string{" xyx "}, true},
		{[]string{"xyx", "zxy w"}, true},
		{[]string{"xyx", "zyx"}, false},
		{[]string{"xyzx"}, false},
		{[]string{"xx"}, false},
		{[]string{"yx ", "zxy v"}, true},
		{[]string{"xyx", "xxy"}, false},
	} {
		if got := g.shows(tt.texts...); got != tt.want {
			t.Errorf("shows(%q) = %v; want %v", tt.texts, got, tt.want)
		}
	}
}
