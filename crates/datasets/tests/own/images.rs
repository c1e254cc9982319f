//! Images in folders, lists and IDX files.

use super::*;

#[test]
fn class_folders_are_read_in_every_kind_of_file() {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in ["a.png", "b.jpg", "c.webp", "d.bmp", "e.pgm", "deep/f.png"]
        .iter()
        .enumerate()
    {
        image(&folder, &format!("cat/{name}"), 6, 10 + number as u8);
        image(&folder, &format!("dog 2/{name}"), 9, 90 + number as u8);
    }
    fs::write(folder.path().join("cat/notes.txt"), "no image").unwrap();
    fs::write(folder.path().join("cat/.hidden.png"), "no image").unwrap();
    let data = load(
        "data.folder = { path = \"DIR\", size = 4, test = 0.5 }",
        &folder,
    )
    .unwrap();
    assert_eq!(*data.classes, ["cat", "dog 2"]);
    assert_eq!((data.train.len(), data.evaluation[0].dataset.len()), (6, 6));
    assert_eq!(
        data.shape(),
        Shape::Image {
            channels: 1,
            height: 4,
            width: 4
        }
    );
    for index in 0..6 {
        let label = data.train.labels()[index as usize];
        let mean = pixels(&*data.train, index).iter().sum::<f32>() / 16.0 * 255.0;
        let value = if label == 0 { 10.0 } else { 90.0 };
        assert!((mean - value - 5.0).abs() < 8.0, "{mean}");
        // The second time it comes from memory.
        assert_eq!(pixels(&*data.train, index), pixels(&*data.train, index));
        assert!(data.train.thumbnail(index).is_some());
    }
    let inverted = load(
        "data.folder = { path = \"DIR\", size = 4, test = 0.5, dark_ink = true, color = \"rgb\" }",
        &folder,
    )
    .unwrap();
    let (plain, inverted) = (pixels(&*data.train, 0), pixels(&*inverted.train, 0));
    assert_eq!(inverted.len(), 48);
    assert!((plain[0] + inverted[0] - 1.0).abs() < 1e-6);
}

#[test]
fn folders_may_name_the_parts() {
    let folder = tempfile::tempdir().unwrap();
    for (part, class, value) in [
        ("train", "a", 1),
        ("train", "b", 50),
        ("val", "a", 100),
        ("test", "c", 150),
    ] {
        for number in 0..2 {
            image(
                &folder,
                &format!("{part}/{class}/{number}.png"),
                4,
                value + 20 * number,
            );
        }
    }
    let data = load("data.folder = { path = \"DIR\" }", &folder).unwrap();
    let parts: Vec<_> = data.evaluation.iter().map(|it| it.name).collect();
    assert_eq!(parts, ["validation", "test"]);
    assert_eq!((data.train_classes, data.classes.len()), (2, 3));
    assert_eq!(data.evaluation[1].dataset.labels(), [2, 2]);
    // The validation part has a class that is trained on.
    let (_, lines) = checked(
        "data.folder = { path = \"DIR\", hold_out = \"classes\" }",
        &folder,
    );
    assert_begin(
        &lines,
        &["DIR: class `a` is in the training part and in `validation`, which should share none"],
    );
}

#[test]
fn what_is_wrong_with_a_folder_is_all_listed() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..5 {
        image(&folder, &format!("cat/{number}.png"), 4, 10 * number);
        image(&folder, &format!("dog/{number}.png"), 4, 100 + 10 * number);
    }
    image(&folder, "dog/large.png", 5, 7);
    image(&folder, "lone/one.png", 4, 60);
    image(&folder, "loose.png", 4, 80);
    fs::copy(
        folder.path().join("cat/1.png"),
        folder.path().join("dog/copy.png"),
    )
    .unwrap();
    fs::write(folder.path().join("cat/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    fs::write(folder.path().join("cat/moving.gif"), b"GIF89a").unwrap();
    fs::create_dir(folder.path().join("void")).unwrap();

    let text = "data.folder = { path = \"DIR\", test = 0 }";
    assert!(load(text, &folder).is_err());
    let (checked, mut lines) = checked(text, &folder);
    lines.sort();
    assert_begin(
        &lines,
        &[
            "DIR/cat/broken.png cannot be decoded as an image",
            "DIR/cat/moving.gif: images of this kind are not read; PNG, JPEG",
            "DIR/dog/copy.png: the pixels are those of DIR/cat/1.png, but the classes are `cat` and `dog`",
            "DIR/dog/large.png: the image is 5 by 4, others are 4 by 4; set `size`",
            "DIR/loose.png: the image lies in no class folder",
            "DIR/void: there are no images in this class folder",
            "data.folder, part `train`: class `lone` has one sample",
        ],
    );
    assert!(!checked.problems.can_be_trained_on());
    assert_eq!(checked.parts[0].samples, 14);

    let few = check(&config(text, &folder), Path::new(""), Seed(1), 2);
    assert_eq!((few.problems.errors().count(), few.problems.more()), (2, 5));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_read_and_told_of() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9\n"));
    for class in [odd, Path::new("tea")] {
        let class = folder.path().join(class);
        fs::create_dir(&class).unwrap();
        for number in 0..2 {
            let value = if class.ends_with("tea") { 10 } else { 90 };
            let image = GrayImage::from_pixel(3, 3, Luma([value + number]));
            image
                .save_with_format(class.join(format!("{number}.png")), image::ImageFormat::Png)
                .unwrap();
        }
    }
    let text = "data.folder = { path = \"DIR\", test = 0.5 }";
    let data = load(text, &folder).unwrap();
    assert_eq!(*data.classes, ["caf%E9%0A", "tea"]);
    let (checked, lines) = checked(text, &folder);
    assert_eq!(lines.len(), 2 + 4, "{lines:#?}"); // Two odd paths; and four classes of one sample in a part.
    assert!(lines[0].starts_with("DIR/caf%E9%0A/0.png: the name is not plain UTF-8"));
    assert!(checked.problems.can_be_trained_on());
}

#[test]
fn lists_of_images_have_boxes_and_roles() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..4 {
        image(&folder, &format!("images/{number}.png"), 8, 40 * number);
    }
    let text = "path,label,split,is_query,is_gallery,x_1,y_1,x_2,y_2\n\
                0.png,5,train,,,,,,\n\
                1.png,5,train,,,2,1,4,3\n\
                2.png,7,validation,True,False,,,,\n\
                3.png,7,validation,False,True,2,0,9,4\n";
    fs::write(folder.path().join("list.csv"), text).unwrap();
    let text = "data.images_csv = { path = \"DIR/list.csv\", folder = \"DIR/images\", size = 2 }";
    let data = load(text, &folder).unwrap();
    // Of the whole image, and of the box from (2, 1) to (4, 3): the pixel at (x, y) is 40 + x + y.
    assert_eq!(
        pixels(&*data.train, 1),
        [43., 44., 44., 45.].map(|x| x / 255.0)
    );
    let part = &data.evaluation[0];
    assert_eq!(part.name, "validation");
    let roles = part.roles.as_ref().unwrap();
    assert!(roles[0].query && !roles[0].gallery && roles[1].gallery);
    let error = part.dataset.sample(1).unwrap_err().to_string();
    assert!(
        error.ends_with("3.png: the box from (2, 0) to (9, 4) does not lie in the image of 8 by 4"),
        "{error}"
    );
    let error = load_error("data.images_csv = { path = \"DIR/list.csv\" }", &folder);
    assert!(
        error.starts_with("DIR/list.csv, row 2: `0.png` is not there"),
        "{error}"
    );
}

#[test]
fn idx_files_that_lie_are_refused() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("mnist")).unwrap();
    // Right sizes, so that only the content can tell.
    for (name, size) in [
        ("train-images-idx3-ubyte.gz", 9_912_422),
        ("train-labels-idx1-ubyte.gz", 28_881),
        ("t10k-images-idx3-ubyte.gz", 1_648_877),
        ("t10k-labels-idx1-ubyte.gz", 4_542),
    ] {
        let claim = [0, 0, 8, 3, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 28, 0, 0, 0, 28];
        let pack = |filling: usize| {
            let stored = flate2::Compression::none();
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), stored);
            writer.write_all(&claim).unwrap();
            writer.write_all(&vec![1; filling]).unwrap();
            writer.finish().unwrap()
        };
        // What is stored grows by what is added, but for a few bytes a block.
        let mut filling = size - 100;
        let packed = loop {
            let packed = pack(filling);
            match packed.len() as isize - size as isize {
                0 => break packed,
                over => filling = filling.strict_add_signed(-over),
            }
        };
        fs::write(folder.path().join("mnist").join(name), packed).unwrap();
    }
    let error = config("data.mnist = {}", &folder)
        .load(folder.path(), Seed(1))
        .err()
        .unwrap();
    assert_eq!(error.blame(), Blame::Data);
    assert!(
        error
            .to_string()
            .contains("bytes follow the header, which claims 1683627179"),
        "{error}"
    );
}

#[test]
fn images_are_opened_by_what_a_run_stored() {
    let folder = tempfile::tempdir().unwrap();
    let digits = load("data.digits = {}", &folder).unwrap();
    let parts: Vec<_> = digits
        .evaluation
        .iter()
        .map(|it| (it.name, it.dataset.len()))
        .collect();
    assert_eq!((digits.train_classes, digits.classes.len()), (8, 10));
    assert_eq!(parts, [("test", 429), ("unseen", 354)]);
    assert_eq!(digits.train.len() + 429 + 354, 1797);

    image(&folder, "new/3/a.png", 16, 10);
    image(&folder, "new/b.png", 8, 10);
    let new = digits.preparation.open(&folder.path().join("new")).unwrap();
    assert_eq!(new.classes(), ["3", ""]);
    assert_eq!(pixels(&*new, 0).len(), 64);
    let one: PathBuf = folder.path().join("new/b.png");
    assert_eq!(digits.preparation.open(&one).unwrap().len(), 1);
    // Data of another kind are not for this model.
    fs::write(folder.path().join("t.csv"), TABLE.replace('?', "3")).unwrap();
    let table = config(
        "data.table = { path = \"DIR/t.csv\", label = \"kind\", skip = [\"part\"], test = 0.5 }",
        &folder,
    );
    let error = table.load_prepared(Path::new(""), Seed(1), &digits.preparation);
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("trained on images")
    );
}
