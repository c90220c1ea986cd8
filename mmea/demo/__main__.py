from mmea.cli.demo_data import main

if __name__ == '__main__':
    main()
